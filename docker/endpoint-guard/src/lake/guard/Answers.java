package lake.guard;

import java.util.HashMap;
import java.util.Map;
import java.util.concurrent.TimeUnit;

/**
 * Pieces of results on their way to clients: made, and not yet taken. A client that asks by many connections and reads
 * from none would fill the memory. So what is made for one user at a time has a bound, past which the next one waits; and
 * a connection that does not take its piece in time is closed.
 */
final class Answers {
  private static final long OF_USER = Runtime.getRuntime().maxMemory() / 16;
  private static final long TURN = TimeUnit.SECONDS.toNanos(30);
  /** Enough for the largest piece at one megabit a second. */
  private static final long PATIENCE = TimeUnit.MINUTES.toNanos(2);

  private static final class Answer {
    private final String user;
    private final long bytes;
    private final Runnable close;
    private long sentSince;

    private Answer(String user, long bytes, Runnable close) {
      this.user = user;
      this.bytes = bytes;
      this.close = close;
    }
  }

  private static final Map<Thread, Answer> UNDER_WAY = new HashMap<>();
  /** What closes the connection whose request a thread answers. */
  private static final ThreadLocal<Runnable> CONNECTION = new ThreadLocal<>();

  private Answers() {}

  /** The thread begins to answer a request of a connection, which this closes. */
  static void request(Runnable close) {
    CONNECTION.set(close);
  }

  /** Waits until there is room for a piece of so many bytes. Refuses where there was none in time. */
  static synchronized void begin(String user, long bytes) {
    if (bytes == 0) {
      return;
    }
    long until = System.nanoTime() + TURN;
    // One piece is made in any case.
    while (taken(user) > 0 && taken(user) + bytes > OF_USER) {
      long left = TimeUnit.NANOSECONDS.toMillis(until - System.nanoTime());
      if (left <= 0) {
        throw Guard.error("[LIMIT] fetching refused: other connections of " + user
            + " do not read what they have asked for: read it, or close them");
      }
      try {
        Answers.class.wait(left);
      } catch (InterruptedException error) {
        throw Guard.sneaky(error);
      }
    }
    UNDER_WAY.put(Thread.currentThread(), new Answer(user, bytes, CONNECTION.get()));
  }

  private static long taken(String user) {
    return UNDER_WAY.values().stream().filter(answer -> answer.user.equals(user)).mapToLong(answer -> answer.bytes).sum();
  }

  /** The piece is made, and is sent from now on. */
  static synchronized void made() {
    Answer answer = UNDER_WAY.get(Thread.currentThread());
    if (answer != null) {
      answer.sentSince = System.nanoTime();
    }
  }

  /** The thread's answer was taken, or never will be. */
  static synchronized void end() {
    if (UNDER_WAY.remove(Thread.currentThread()) != null) {
      Answers.class.notifyAll();
    }
  }

  /** Closes the connections that do not take theirs; their threads end the rest. */
  static void sweep() {
    long now = System.nanoTime();
    Runnable[] late;
    synchronized (Answers.class) {
      late = UNDER_WAY.values().stream().filter(answer -> answer.sentSince != 0 && now - answer.sentSince > PATIENCE)
          .map(answer -> answer.close).filter(close -> close != null).toArray(Runnable[]::new);
    }
    for (Runnable close : late) {
      close.run();
    }
  }
}
