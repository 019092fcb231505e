package lake.guard;

import com.sun.management.ThreadMXBean;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.lang.management.GarbageCollectorMXBean;
import java.lang.management.ManagementFactory;
import java.lang.management.MemoryPoolMXBean;
import java.lang.management.MemoryType;
import java.lang.management.MemoryUsage;
import java.lang.management.ThreadInfo;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Stream;
import org.apache.spark.SparkContext;
import org.apache.spark.api.java.JavaSparkContext;
import scala.Tuple2;

/**
 * Keeps the process able to serve, or ends it, to be started again.
 *
 * <p>Where Java collects garbage most of the time and finds little, the query that has allocated most is stopped, then the
 * next. Where that does not help, where a stopped query goes on, or where neither a small job with a shuffle nor any other
 * is done in time, the process ends.
 *
 * <p>In a heap that is full each new object waits for a collection, those that would stop a query, too. So some memory is
 * kept in reserve, and given away then; and what ends the process at last makes no objects.
 */
final class Watchdog {
  private static final long STEP_MILLIS = 500;
  /** Share of the last seconds that went into collecting garbage, and of the heap that was full after it. */
  private static final double BUSY = 0.4;
  private static final double FULL = 0.85;
  /** Below this share the reserve is taken again. */
  private static final double KEPT = 0.6;
  /** So long a full collection tells of the heap: many small queries keep Java busy, and collect little that is old. */
  private static final long FRESH = TimeUnit.SECONDS.toNanos(5);
  /** In so long what a query has allocated counts half. */
  private static final double HALF_LIFE = 30e9;
  private static final long LOOK = TimeUnit.SECONDS.toNanos(2);
  private static final long BETWEEN = TimeUnit.SECONDS.toNanos(4);
  /** Share of so many last seconds that goes into collections of the whole heap when nobody is served any more. */
  private static final double HELPLESS = 0.8;
  private static final long HELPLESS_NANOS = TimeUnit.SECONDS.toNanos(10);
  /** For a last word. */
  private static final long WORD_MILLIS = 3_000;
  private static final int RESERVE = (int) (Runtime.getRuntime().maxMemory() / 16);
  private static final long SILENT = TimeUnit.SECONDS.toNanos(60);
  private static final long JOB_SECONDS = 15;
  private static final long CHECK_MILLIS = 10_000;
  private static final Pattern TASK = Pattern.compile("\\(TID (\\d+)\\)");
  private static final ThreadMXBean THREADS = (ThreadMXBean) ManagementFactory.getThreadMXBean();
  private static final GarbageCollectorMXBean[] COLLECTORS =
      ManagementFactory.getGarbageCollectorMXBeans().toArray(GarbageCollectorMXBean[]::new);
  /** Those that collect the whole heap. */
  private static final GarbageCollectorMXBean[] MAJOR = Arrays.stream(COLLECTORS)
      .filter(collector -> Arrays.stream(collector.getMemoryPoolNames()).anyMatch(pool -> pool.contains("Old")))
      .toArray(GarbageCollectorMXBean[]::new);
  private static final MemoryPoolMXBean[] OLD = ManagementFactory.getMemoryPoolMXBeans().stream()
      .filter(pool -> pool.getType() == MemoryType.HEAP && pool.getName().contains("Old")).toArray(MemoryPoolMXBean[]::new);

  private final SparkContext spark;
  private final RunLimits limits;
  private final Map<Long, Long> allocated = new HashMap<>(); // by thread
  private final Path temporary;
  private final long diskLimit;
  private long looked = System.nanoTime();
  private long freed = looked;
  private volatile long served = System.nanoTime();
  private volatile byte[] reserve = new byte[RESERVE];
  private final Object lastWord = new Object();
  private boolean helpless;

  private Watchdog(SparkContext spark, RunLimits limits) {
    this.spark = spark;
    this.limits = limits;
    this.temporary = Path.of(spark.conf().get("spark.local.dir"));
    this.diskLimit = spark.conf().getLong("spark.lake.query.diskBytes", Long.MAX_VALUE);
  }

  static void start(SparkContext spark, RunLimits limits) {
    Watchdog dog = new Watchdog(spark, limits);
    thread("watchdog", dog::watch);
    thread("watchdog-job", dog::serve);
    thread("watchdog-last-word", dog::sayLastWord);
    thread("watchdog-end", dog::endIfHelpless);
  }

  private static void thread(String name, Runnable work) {
    Thread thread = new Thread(work, name);
    thread.setDaemon(true);
    thread.setPriority(Thread.MAX_PRIORITY);
    thread.start();
  }

  private void watch() {
    long collected = millis(COLLECTORS);
    double busy = 0;
    long then = System.nanoTime();
    long shed = then - BETWEEN;
    long since = 0;
    long majors = majors();
    long lastMajor = then - FRESH;
    while (true) {
      pause(STEP_MILLIS);
      try {
        long now = System.nanoTime();
        long collectedNow = millis(COLLECTORS);
        // Of some seconds, the last ones more.
        double share = (collectedNow - collected) * 1e6 / (now - then);
        double weight = Math.min(1, (now - then) / 2e9);
        busy = busy * (1 - weight) + share * weight;
        collected = collectedNow;
        double age = Math.pow(0.5, (now - then) / HALF_LIFE);
        then = now;
        long majorsNow = majors();
        lastMajor = majorsNow > majors ? now : lastMajor;
        majors = majorsNow;
        if (busy < BUSY || now - lastMajor > FRESH || full() < FULL) {
          since = 0;
          if (reserve == null && full() < KEPT) {
            reserve = new byte[RESERVE];
          }
        } else {
          since = since == 0 ? now : since;
          reserve = null;
        }
        limits.age(age);
        account();
        if (since != 0 && now - shed > BETWEEN) {
          shed = now;
          QueryLog.log("memory short", Users.HEALTH, "seconds", TimeUnit.NANOSECONDS.toSeconds(now - since), "end",
              String.format("%.2f full, %.2f of the time collecting; stopped: %s", full(), busy, limits.shed()));
        }
        RunLimits.Culprit overdue = limits.overdue();
        if (overdue != null) {
          // Where memory is short nothing ends in time, and that proves nothing of whose query it is.
          end(overdue.why(), since == 0 ? overdue.user() : limits.greediest(), since == 0);
        }
        disk(now);
        if (spark.isStopped() && !leaves()) {
          end("Spark has stopped itself", limits.greediest(), false);
        }
        if (now - served > SILENT) {
          end("a small job was not done for " + TimeUnit.NANOSECONDS.toSeconds(SILENT) + " s", limits.greediest(), false);
        }
      } catch (OutOfMemoryError error) {
        // The next round decides.
      }
    }
  }

  /** Whether somebody has told the process to end. */
  private static boolean leaves() {
    try {
      Runtime.getRuntime().removeShutdownHook(new Thread());
      return false;
    } catch (IllegalStateException error) {
      return true;
    }
  }

  /** The files of joins and sorts are those of all users together, on a disk that others need, too. */
  private void disk(long now) {
    if (now - looked < LOOK) {
      return;
    }
    looked = now;
    long written = size(temporary);
    if (written <= diskLimit) {
      return;
    }
    if (now - freed > BETWEEN) {
      freed = now;
      if (!limits.freeDisk(diskLimit)) {
        System.gc(); // Spark removes a query's files when Java has collected what stands for them
      }
    }
  }

  private static long size(Path folder) {
    try (Stream<Path> files = Files.walk(folder)) {
      return files.mapToLong(file -> {
        try {
          return Files.isRegularFile(file) ? Files.size(file) : 0;
        } catch (IOException error) {
          return 0; // it was removed meanwhile
        }
      }).sum();
    } catch (IOException | UncheckedIOException error) {
      return 0;
    }
  }

  /** A job as small queries are, with a shuffle. */
  private void serve() {
    while (true) {
      long began = System.nanoTime();
      try {
        spark.setJobGroup("watchdog", "", false);
        JavaSparkContext.fromSparkContext(spark).parallelize(List.of(1, 2, 3, 4), 2)
            .mapToPair(number -> new Tuple2<>(number % 2, number)).reduceByKey(Integer::sum, 2).countAsync()
            .get(JOB_SECONDS, TimeUnit.SECONDS);
        served = System.nanoTime();
      } catch (TimeoutException late) {
        // On a machine that is busy with something else all is slow: an end would make it slower.
        if (limits.jobDone() > began) {
          served = System.nanoTime();
        }
        QueryLog.log("self-check late", Users.HEALTH, "seconds", JOB_SECONDS);
        spark.cancelJobGroup("watchdog");
      } catch (Throwable error) {
        // One job may be lost with the memory that it needed; the next one tells.
        QueryLog.log("self-check failed", Users.HEALTH, "end", error);
        spark.cancelJobGroup("watchdog");
      }
      pause(CHECK_MILLIS);
    }
  }

  /** Adds what threads have allocated to the queries they work for. */
  private void account() {
    long[] threads = THREADS.getAllThreadIds();
    long[] bytes = THREADS.getThreadAllocatedBytes(threads);
    ThreadInfo[] names = THREADS.getThreadInfo(threads);
    Map<Long, Long> before = Map.copyOf(allocated);
    allocated.clear();
    for (int index = 0; index < threads.length; index++) {
      allocated.put(threads[index], bytes[index]);
      long more = bytes[index] - before.getOrDefault(threads[index], 0L);
      if (names[index] != null && more > 0) {
        Matcher task = TASK.matcher(names[index].getThreadName());
        limits.allocated(task.find() ? Long.valueOf(task.group(1)) : null, threads[index], more);
      }
    }
  }

  /** Ends a process whose heap stays full, without a new object. */
  private void endIfHelpless() {
    long[] collected = new long[20]; // until each of the last looks
    long[] at = new long[collected.length];
    Arrays.fill(at, System.nanoTime());
    Arrays.fill(collected, millis(MAJOR));
    for (int look = 0;; look = (look + 1) % at.length) {
      pause(1_000);
      long millis = millis(MAJOR);
      long now = System.nanoTime();
      for (int other = 0; other < at.length; other++) {
        long between = now - at[other];
        if (between > HELPLESS_NANOS && (millis - collected[other]) * 1e6 > HELPLESS * between) {
          reserve = null;
          synchronized (lastWord) {
            helpless = true;
            lastWord.notifyAll();
          }
          pause(WORD_MILLIS);
          Runtime.getRuntime().halt(70);
        }
      }
      collected[look] = millis;
      at[look] = now;
    }
  }

  private void sayLastWord() {
    synchronized (lastWord) {
      while (!helpless) {
        try {
          lastWord.wait();
        } catch (InterruptedException error) {
          Thread.currentThread().interrupt();
        }
      }
    }
    end("no memory is left", limits.greediest(), false);
  }

  /** That went into collections until now. */
  private static long millis(GarbageCollectorMXBean[] collectors) {
    long millis = 0;
    for (GarbageCollectorMXBean collector : collectors) {
      millis += collector.getCollectionTime();
    }
    return millis;
  }

  /** Collections of the whole heap until now. */
  private static long majors() {
    long count = 0;
    for (GarbageCollectorMXBean collector : MAJOR) {
      count += collector.getCollectionCount();
    }
    return count;
  }

  /** How much of the part of the heap that is for what lives long was full after it was last collected. */
  private static double full() {
    double full = 0;
    for (MemoryPoolMXBean pool : OLD) {
      MemoryUsage usage = pool.getCollectionUsage();
      if (usage != null && usage.getMax() > 0) {
        full = Math.max(full, (double) usage.getUsed() / usage.getMax());
      }
    }
    return full;
  }

  private void end(String why, String culprit, boolean sure) {
    try {
      Restarts.remember(culprit, sure);
      QueryLog.log("restart", Users.HEALTH, "end", why, "culprit", culprit, "statement", limits.running());
    } catch (IOException error) {
      QueryLog.log("restart", Users.HEALTH, "end", why, "culprit", culprit + ", who cannot be written down: " + error);
    } finally {
      // Not exit(): what is to be run at an exit may need what is missing.
      Runtime.getRuntime().halt(70);
    }
  }

  private static void pause(long millis) {
    try {
      Thread.sleep(millis);
    } catch (InterruptedException error) {
      Thread.currentThread().interrupt();
    }
  }
}
