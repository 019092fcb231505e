package lake.guard;

import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.Deque;
import java.util.HashMap;
import java.util.Iterator;
import java.util.List;
import java.util.Map;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.function.Consumer;

/**
 * Connections that have not said who they are. Of too many the oldest has to go, of the address that has most of them. One
 * that takes too long has to go, too: a client that sends a byte now and then never meets the time-out of a read.
 */
final class Waiting<T> {
  private static final int MOST = 300;
  /** Over HTTP a connection counts until its login was right, which may wait for others of its address, see {@link Login}. */
  private static final long LONGEST = TimeUnit.SECONDS.toNanos(40);

  private record One<T>(T connection, long since) {}

  private final Consumer<T> close;
  private final Map<String, Deque<One<T>>> waiting = new HashMap<>();
  /** Those that have to go. They are closed by a thread of their own, for which nobody waits. */
  private final BlockingQueue<T> leaving = new LinkedBlockingQueue<>();
  private int count;

  /** What closes a connection must not wait for the client. */
  Waiting(Consumer<T> close) {
    this.close = close;
    Thread closer = new Thread(this::closeLeaving, "logins");
    closer.setDaemon(true);
    closer.start();
  }

  /** In the order in which connections came, whichever thread is the first to look at its own. */
  synchronized void begin(String address, T connection) {
    waiting.computeIfAbsent(address, key -> new ArrayDeque<>()).add(new One<>(connection, System.nanoTime()));
    if (++count > MOST) {
      count--;
      leaving.add(waiting.values().stream().max(Comparator.comparingInt(Deque::size)).orElseThrow().poll().connection());
    }
  }

  synchronized void end(String address, T connection) {
    Deque<One<T>> others = waiting.get(address);
    if (others != null && others.removeIf(other -> other.connection() == connection)) {
      count--;
    }
    if (others != null && others.isEmpty()) {
      waiting.remove(address);
    }
  }

  private void closeLeaving() {
    long looked = System.nanoTime();
    while (true) {
      try {
        T next = leaving.poll(1, TimeUnit.SECONDS);
        if (next != null) {
          close.accept(next);
        }
        if (System.nanoTime() - looked > TimeUnit.SECONDS.toNanos(1)) {
          looked = System.nanoTime();
          leaving.addAll(late());
        }
      } catch (InterruptedException error) {
        return;
      } catch (RuntimeException error) {
        // One that cannot be closed is closed already.
      }
    }
  }

  private synchronized List<T> late() {
    List<T> late = new ArrayList<>();
    long now = System.nanoTime();
    for (Deque<One<T>> others : waiting.values()) {
      for (Iterator<One<T>> each = others.iterator(); each.hasNext(); ) {
        One<T> one = each.next();
        if (now - one.since() > LONGEST) {
          late.add(one.connection());
          each.remove();
          count--;
        }
      }
    }
    waiting.values().removeIf(Deque::isEmpty);
    return late;
  }
}
