package lake.guard;

import java.util.ArrayList;
import java.util.Comparator;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.TimeUnit;
import java.util.function.Consumer;
import org.apache.spark.SparkConf;
import org.apache.spark.SparkContext;
import org.apache.spark.sql.catalyst.CurrentUserContext$;
import org.apache.spark.sql.catalyst.InternalRow;
import org.apache.spark.sql.catalyst.expressions.Attribute;
import org.apache.spark.sql.catalyst.expressions.UnsafeRow;
import org.apache.spark.sql.types.ArrayType;
import org.apache.spark.sql.types.MapType;
import org.apache.spark.sql.types.StructType;
import scala.collection.AbstractIterator;
import scala.collection.Iterator;
import scala.collection.immutable.Seq;
import scala.jdk.javaapi.CollectionConverters;

/**
 * What results take that are held in memory until their clients have fetched them. All together have
 * {@code spark.lake.query.heldPercent} of the heap. Where that is not enough, the user who holds most loses the largest
 * result. One from which nothing was fetched for {@code spark.lake.query.heldSeconds} goes, too.
 *
 * <p>Rows are measured as objects: {@link HeldExec} and {@link HereExec} count them as they are made.
 */
final class HeldResults {
  /** What a statement takes beside its rows: its plans, mostly; and for each character of one that is long. */
  private static final long STATEMENT = 256 << 10;
  private static final int LONG = 8 << 10;
  private static final int VERY_LONG = 64 << 10;
  /** Very long statements of a user that are planned, or run. */
  private static final int AT_ONCE = 2;
  private static final long CHARACTER = 300;
  /** What a row's objects take beside its bytes, and each of its columns. */
  private static final long ROW = 64;
  private static final long COLUMN = 32;
  /** How much more the objects of nested values take than their bytes. */
  private static final long NESTED = 5;
  /** Bytes that are counted without telling all others, who would wait for each other at every row. */
  private static final long STEP = 1 << 20;
  private static final long LARGEST_ROW = 16 << 20;
  private static final long FORGET = TimeUnit.MINUTES.toNanos(1);
  private static final long LONGEST = TimeUnit.HOURS.toNanos(1);

  private static long budget = Long.MAX_VALUE;
  private static long patience = Long.MAX_VALUE;
  private static Consumer<String> close = statement -> {};
  private static final Map<String, HeldResults> RESULTS = new LinkedHashMap<>();
  private static final ThreadLocal<Room> ROOM = new ThreadLocal<>();

  private final String statement;
  private final String user;
  /** Of the rows. */
  private long bytes;
  /** Of the rest: plans, and rows that a plan reads from memory. */
  private long besides = STATEMENT;
  /** The part of it that stays when the rows are given up. */
  private long plans = STATEMENT;
  private long rows;
  private boolean complete;
  private long touched;
  private String dropped;

  private HeldResults(String statement, String user) {
    this.statement = statement;
    this.user = user;
  }

  /** What a row takes as objects. */
  private static final class Measure {
    private final long perRow;
    private final long perByte;

    private Measure(Seq<Attribute> columns) {
      perRow = ROW + COLUMN * columns.size();
      perByte = CollectionConverters.asJava(columns).stream().map(Attribute::dataType)
          .anyMatch(type -> type instanceof ArrayType || type instanceof MapType || type instanceof StructType) ? NESTED : 1;
    }

    /** Refuses a row that is too large to be handed over. */
    private long of(InternalRow row) {
      long bytes = row instanceof UnsafeRow known ? known.getSizeInBytes() : 0;
      if (bytes > LARGEST_ROW) {
        throw Guard.error("[LIMIT] query stopped: it has a row of " + (bytes >> 20) + " MiB, and " + (LARGEST_ROW >> 20)
            + " MiB are allowed: ask for parts of it, as with substr or slice");
      }
      return perRow + perByte * bytes;
    }
  }

  /** Counts the rows of one collection: a statement has one, and one for each of its subqueries. */
  static final class Counter {
    private final HeldResults result;
    private final Measure measure;
    private long rows;
    private long bytes;

    private Counter(HeldResults result, Seq<Attribute> columns) {
      this.result = result;
      this.measure = new Measure(columns);
    }

    /** Refuses to go on where the result is, or has become, the one that has to go. */
    void add(InternalRow row) {
      rows++;
      bytes += measure.of(row);
      if (bytes > STEP) {
        tell(false);
      }
    }

    void complete() {
      tell(true);
    }

    private void tell(boolean complete) {
      result.count(rows, bytes, complete);
      rows = 0;
      bytes = 0;
    }
  }

  static synchronized void open(SparkConf conf) {
    budget = Runtime.getRuntime().maxMemory() / 100 * conf.getLong("spark.lake.query.heldPercent", 100);
    long seconds = conf.getLong("spark.lake.query.heldSeconds", 0);
    patience = seconds == 0 ? Long.MAX_VALUE : TimeUnit.SECONDS.toNanos(seconds);
  }

  /** What closes a statement whose result is dropped when it was complete. */
  static synchronized void onDrop(Consumer<String> closes) {
    close = closes;
  }

  /** For the result of the statement that this thread runs. */
  static Counter begin(SparkContext spark, Seq<Attribute> columns) {
    String statement = spark.getLocalProperty("spark.jobGroup.id");
    String user = CurrentUserContext$.MODULE$.getCurrentUser();
    HeldResults result = statement == null ? new HeldResults("", user) : of(statement, user);
    result.count(0, 0, false);
    return new Counter(result, columns);
  }

  /**
   * The statement that this thread runs is about to be planned. What is planned cannot be stopped at once, so it is this
   * one that is refused where others of its user have the room.
   */
  static synchronized void planned(SparkContext spark, int characters) {
    String statement = spark.getLocalProperty("spark.jobGroup.id");
    if (statement == null || characters <= LONG || RESULTS.containsKey(statement)) {
      return;
    }
    String user = CurrentUserContext$.MODULE$.getCurrentUser();
    long plans = STATEMENT + CHARACTER * characters;
    List<HeldResults> others = RESULTS.values().stream().filter(other -> other.user.equals(user)).toList();
    boolean isGreedy = !others.isEmpty()
        && others.stream().mapToLong(HeldResults::held).sum() + plans > budget / 2 && total() + plans > budget;
    if (isGreedy || characters > VERY_LONG
        && others.stream().filter(other -> !other.complete && other.plans > CHARACTER * VERY_LONG).count() >= AT_ONCE) {
      throw Guard.error("[LIMIT] query refused: statements of more than " + (VERY_LONG >> 10) + " KiB take much memory, and "
          + AT_ONCE + " of " + user + " at once are allowed, or as many as there is room for: wait for an answer, and close it");
    }
    HeldResults result = of(statement, user);
    result.plans = plans;
    result.besides = plans;
  }

  /** The plan of the statement that this thread runs has rows of its own. */
  static void besides(SparkContext spark, long bytes) {
    String statement = spark.getLocalProperty("spark.jobGroup.id");
    if (statement != null) {
      HeldResults result = of(statement, CurrentUserContext$.MODULE$.getCurrentUser());
      synchronized (HeldResults.class) {
        result.besides += result.dropped == null ? bytes : 0;
      }
      result.count(0, 0, false);
    }
  }

  /** It has given them up. */
  static synchronized void onlyResult(SparkContext spark) {
    HeldResults result = RESULTS.get(spark.getLocalProperty("spark.jobGroup.id"));
    if (result != null && result.dropped == null) {
      result.besides = result.plans;
    }
  }

  private static synchronized HeldResults of(String statement, String user) {
    return RESULTS.computeIfAbsent(statement, key -> new HeldResults(statement, user));
  }

  /**
   * The rows of a result that is handed over while it is read. They end for now where the piece that is asked for is full,
   * see {@link Room}: Thrift's client asks again until it gets none.
   */
  static Iterator<InternalRow> bounded(Iterator<InternalRow> rows, Seq<Attribute> columns) {
    Measure measure = new Measure(columns);
    return new AbstractIterator<>() {
      @Override
      public boolean hasNext() {
        Room room = ROOM.get();
        return (room == null || room.bytes > 0) && rows.hasNext();
      }

      @Override
      public InternalRow next() {
        InternalRow row = rows.next();
        long bytes = measure.of(row);
        Room room = ROOM.get();
        if (room != null) {
          room.take(bytes);
        }
        return row;
      }
    };
  }

  /** What the rows may take that a thread takes out of a result which is read meanwhile. */
  private static final class Room {
    private final String user;
    private final long most;
    private long bytes;

    private Room(String user, long most) {
      this.user = user;
      this.most = most;
      this.bytes = most;
    }

    /** Its turn begins with the first row: before, a job may have run for long. */
    private void take(long row) {
      if (bytes == most) {
        Answers.begin(user, most);
      }
      bytes -= row;
    }
  }

  /** For what this thread does until {@link #leaveRoom}. */
  static void room(String user, long most) {
    ROOM.set(new Room(user, most));
  }

  static void leaveRoom() {
    ROOM.remove();
  }

  /** A task's rows have come of a result that is handed over while it is read, in the place of those of the task before. */
  static void piece(String statement, String user, long packed) {
    HeldResults result = of(statement, user);
    try {
      result.count(0, packed - result.bytes, true);
    } catch (Exception error) {
      close.accept(statement); // it is the one that has to go
    }
  }

  private void count(long moreRows, long moreBytes, boolean ends) {
    List<String> closes = new ArrayList<>();
    String refused;
    synchronized (HeldResults.class) {
      rows += moreRows;
      bytes += dropped == null ? moreBytes : 0;
      complete = ends;
      touched = System.nanoTime();
      while (dropped == null && total() > budget) {
        HeldResults largest = largest();
        largest.drop("results that are held in memory take more than the " + (budget >> 20)
            + " MiB that all users have together, and nobody holds more than you do: fetch results and close them, say it in fewer words, or "
            + RunLimits.LESS);
        if (largest.complete && largest != this) {
          closes.add(largest.statement);
        }
      }
      refused = dropped;
    }
    closes.forEach(close);
    if (refused != null) {
      throw Guard.error("[LIMIT] query stopped: " + refused);
    }
  }

  private void drop(String why) {
    dropped = why;
    QueryLog.log("result dropped", user, "MiB", held() >> 20, "end", why);
    bytes = 0;
    besides = 0;
  }

  private long held() {
    return bytes + besides;
  }

  private static long total() {
    return RESULTS.values().stream().mapToLong(HeldResults::held).sum();
  }

  private static HeldResults largest() {
    Map<String, Long> ofUser = new HashMap<>();
    RESULTS.values().forEach(result -> ofUser.merge(result.user, result.held(), Long::sum));
    return RESULTS.values().stream().filter(result -> result.dropped == null)
        .max(Comparator.<HeldResults>comparingLong(result -> ofUser.get(result.user)).thenComparingLong(HeldResults::held))
        .orElseThrow();
  }

  /** How many rows of a result take how many bytes, at most so many. */
  record Piece(long rows, long bytes) {}

  /** The client fetches from a result. Of one that is read meanwhile nobody knows the rows ({@link Room}). */
  static synchronized Piece fetched(String statement, long most) {
    HeldResults result = RESULTS.get(statement);
    if (result != null) {
      result.touched = System.nanoTime();
    }
    if (result == null || result.rows == 0) {
      return new Piece(Long.MAX_VALUE, 0);
    }
    long row = Math.max(1, result.bytes / result.rows);
    return new Piece(Math.max(1, most / row), Math.max(row, Math.min(most, result.bytes)));
  }

  /** Why a result was dropped; null: it was not. */
  static synchronized String dropped(String statement) {
    HeldResults result = RESULTS.get(statement);
    return result == null ? null : result.dropped;
  }

  static synchronized void release(String statement) {
    RESULTS.remove(statement);
  }

  /** Drops what nobody fetches, and forgets statements of which nobody told that they have ended. */
  static void sweep(Set<String> open) {
    List<String> closes = new ArrayList<>();
    synchronized (HeldResults.class) {
      long now = System.nanoTime();
      RESULTS.values().removeIf(result -> !open.contains(result.statement)
          && now - result.touched > (result.complete ? FORGET : LONGEST));
      for (HeldResults result : RESULTS.values()) {
        if (result.complete && result.dropped == null && now - result.touched > patience) {
          result.drop("nothing was fetched of its result for " + TimeUnit.NANOSECONDS.toSeconds(patience)
              + " s, and it was freed: ask again");
          closes.add(result.statement);
        }
      }
    }
    closes.forEach(close);
  }
}
