package lake.guard;

import static lake.guard.Scala.seq;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.Semaphore;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.spark.NarrowDependency;
import org.apache.spark.SparkEnv;
import org.apache.spark.TaskContext$;
import org.apache.spark.TaskContextImpl;
import org.apache.spark.executor.TaskMetrics;
import org.apache.spark.memory.TaskMemoryManager;
import org.apache.spark.rdd.RDD;
import org.apache.spark.sql.catalyst.CurrentUserContext$;
import org.apache.spark.sql.catalyst.InternalRow;
import org.apache.spark.sql.catalyst.expressions.UnsafeRow;
import org.apache.spark.sql.execution.SortExec;
import org.apache.spark.sql.execution.SparkPlan;
import scala.Option;
import scala.collection.Iterator;
import scala.collection.immutable.IndexedSeq;
import scala.collection.immutable.Map$;
import scala.collection.immutable.Seq;
import scala.jdk.javaapi.CollectionConverters;

/**
 * A plan of a single task, ready to run, which runs in the thread that asks for its result: a Spark job takes longer than
 * a small query's own work. Nothing can stop it, so {@link SmallTables} puts it only over what is small.
 */
public final class HereExec extends TopExec {
  /** Bytes of a result. */
  static final long SMALL = 4 << 20;
  /** One small query for each core. Without this many clients would use up the memory together. */
  private static final int AT_ONCE = Runtime.getRuntime().availableProcessors();
  private static final Semaphore TURNS = new Semaphore(AT_ONCE, true);
  /** So many of one user have or await a turn, or another one's query would come after all of theirs; not all that there are. */
  private static final Map<String, Semaphore> OF_USER = Login.bounded();
  /** Memory is accounted by this number. Spark counts its tasks upwards from 0, and some numbers below have a meaning. */
  private static final AtomicLong NUMBERS = new AtomicLong(-1_000_000);

  public HereExec(SparkPlan child) {
    super(child);
  }

  @Override
  public InternalRow[] executeCollect() {
    HeldResults.Counter counter = HeldResults.begin(session().sparkContext(), output());
    InternalRow[] rows = rows();
    for (InternalRow row : rows) {
      counter.add(row);
    }
    counter.complete();
    child.foreach(node -> {
      if (node instanceof RowsExec read) {
        read.release();
      }
      return null;
    });
    HeldResults.onlyResult(session().sparkContext());
    return rows;
  }

  private InternalRow[] rows() {
    if (child instanceof RowsExec known) {
      return known.rows().toArray(new InternalRow[0]);
    }
    RDD<InternalRow> rows = child.execute();
    InternalRow[] result = single(rows) ? collected(rows) : null;
    return result == null ? super.executeCollect() : result;
  }

  /** Of one partition, and without a shuffle or anything else that needs more tasks. */
  private static boolean single(RDD<?> rows) {
    return rows.getNumPartitions() == 1 && CollectionConverters.asJava(rows.dependencies()).stream()
        .allMatch(dependency -> dependency instanceof NarrowDependency && single(dependency.rdd()));
  }

  /** A scalar subquery's result is asked for so. */
  @Override
  public InternalRow[] executeTake(int most) {
    InternalRow[] rows = rows();
    return rows.length <= most ? rows : Arrays.copyOf(rows, most);
  }

  /** Null for a result that is not small: it has to be a job's, for which there are limits ({@link RunLimits}). */
  private InternalRow[] collected(RDD<InternalRow> rows) {
    String user = CurrentUserContext$.MODULE$.getCurrentUserOrEmpty();
    Semaphore mine = OF_USER.computeIfAbsent(user, name -> new Semaphore(Math.max(1, AT_ONCE - 1), true));
    await(mine);
    try {
      await(TURNS);
      try {
        return alone(rows);
      } finally {
        TURNS.release();
      }
    } finally {
      mine.release();
    }
  }

  private static void await(Semaphore turns) {
    try {
      turns.acquire();
    } catch (InterruptedException error) {
      throw Guard.sneaky(error);
    }
  }

  private InternalRow[] alone(RDD<InternalRow> rows) {
    long number = NUMBERS.getAndDecrement();
    TaskMemoryManager memory = new TaskMemoryManager(SparkEnv.get().memoryManager(), number);
    TaskContextImpl context = new TaskContextImpl(0, 0, 0, number, 0, 1, memory, new Properties(),
        SparkEnv.get().metricsSystem(), new TaskMetrics(), scala.math.BigDecimal.exact("1"), Map$.MODULE$.empty());
    TaskContext$.MODULE$.setTaskContext(context);
    try {
      return few(rows.iterator(rows.partitions()[0], context));
    } finally {
      try {
        context.markTaskCompleted(Option.empty());
      } finally {
        memory.cleanUpAllAllocatedMemory();
        TaskContext$.MODULE$.unset();
        // It would be sent along with a job's tasks, and cannot be.
        child.foreach(node -> {
          if (node instanceof SortExec sort) {
            sort.rowSorter_$eq(null);
          }
          return null;
        });
      }
    }
  }

  private static InternalRow[] few(Iterator<InternalRow> rows) {
    List<InternalRow> result = new ArrayList<>();
    long bytes = 0;
    while (rows.hasNext()) {
      UnsafeRow row = (UnsafeRow) rows.next();
      bytes += row.getSizeInBytes();
      if (bytes > SMALL) {
        return null;
      }
      result.add(row.copy());
    }
    return result.toArray(new InternalRow[0]);
  }

  /** None that rules may change: the plan below is ready to run. */
  @Override
  public Seq<SparkPlan> children() {
    return seq(List.<SparkPlan>of());
  }

  /** For EXPLAIN. */
  @Override
  @SuppressWarnings({"rawtypes", "unchecked"}) // Scala's overrides have types here that Java's may not
  public Seq innerChildren() {
    return seq(List.of(child));
  }

  @Override
  public SparkPlan withNewChildrenInternal(IndexedSeq<SparkPlan> children) {
    return this;
  }
}
