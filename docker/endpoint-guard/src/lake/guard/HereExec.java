package lake.guard;

import java.util.ArrayList;
import java.util.List;
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
import org.apache.spark.sql.catalyst.InternalRow;
import org.apache.spark.sql.catalyst.expressions.Attribute;
import org.apache.spark.sql.catalyst.expressions.UnsafeRow;
import org.apache.spark.sql.execution.LocalTableScanExec;
import org.apache.spark.sql.execution.SparkPlan;
import scala.Option;
import scala.collection.immutable.IndexedSeq;
import scala.collection.immutable.Map$;
import scala.collection.immutable.Seq;
import scala.jdk.javaapi.CollectionConverters;

/**
 * A plan of a single task, ready to run, which runs in the thread that asks for its result: a Spark job takes longer than
 * a small query's own work. Nothing can stop it, so {@link SmallTables} puts it only over what is small.
 */
public final class HereExec extends SparkPlan {
  /** Bytes of a result. */
  private static final long SMALL = 4 << 20;
  /** Or many clients' queries would slow each other down, and share out the memory until none had enough. */
  private static final Semaphore TURNS = new Semaphore(Runtime.getRuntime().availableProcessors(), true);
  /** Spark counts its tasks upwards from 0; memory is accounted by this number. */
  private static final AtomicLong NUMBERS = new AtomicLong(-1);

  private final SparkPlan child;

  public HereExec(SparkPlan child) {
    this.child = child;
  }

  @Override
  public InternalRow[] executeCollect() {
    if (child instanceof LocalTableScanExec known) {
      return CollectionConverters.asJava(known.rows()).toArray(new InternalRow[0]);
    }
    RDD<InternalRow> rows = child.execute();
    InternalRow[] result = single(rows) ? collected(rows) : null;
    return result == null ? collectedByJob() : result;
  }

  /** A job of one task is at an end before {@link RunLimits} hears how large its result is. Then Spark refuses it. */
  private InternalRow[] collectedByJob() {
    try {
      return super.executeCollect();
    } catch (Exception error) {
      String limit = SparkEnv.get().conf().get("spark.lake.query.resultBytes", null);
      boolean tooLarge = limit != null && String.valueOf(error.getMessage()).contains("spark.driver.maxResultSize");
      throw tooLarge ? Guard.error(RunLimits.tooLarge(Long.parseLong(limit))) : Guard.sneaky(error);
    }
  }

  /** Of one partition, and without a shuffle or anything else that needs more tasks. */
  private static boolean single(RDD<?> rows) {
    return rows.getNumPartitions() == 1 && CollectionConverters.asJava(rows.dependencies()).stream()
        .allMatch(dependency -> dependency instanceof NarrowDependency && single(dependency.rdd()));
  }

  /** Null for a result that is not small: it has to be a job's, for which there are limits ({@link RunLimits}). */
  private static InternalRow[] collected(RDD<InternalRow> rows) {
    TURNS.acquireUninterruptibly();
    long number = NUMBERS.getAndDecrement();
    TaskMemoryManager memory = new TaskMemoryManager(SparkEnv.get().memoryManager(), number);
    TaskContextImpl context = new TaskContextImpl(0, 0, 0, number, 0, 1, memory, new Properties(),
        SparkEnv.get().metricsSystem(), new TaskMetrics(), scala.math.BigDecimal.exact("1"), Map$.MODULE$.empty());
    List<InternalRow> result = new ArrayList<>();
    TaskContext$.MODULE$.setTaskContext(context);
    try {
      scala.collection.Iterator<InternalRow> each = rows.iterator(rows.partitions()[0], context);
      long bytes = 0;
      while (each.hasNext()) {
        UnsafeRow row = (UnsafeRow) each.next();
        bytes += row.getSizeInBytes();
        if (bytes > SMALL) {
          return null;
        }
        result.add(row.copy());
      }
      return result.toArray(new InternalRow[0]);
    } finally {
      context.markTaskCompleted(Option.empty());
      memory.cleanUpAllAllocatedMemory();
      TaskContext$.MODULE$.unset();
      TURNS.release();
    }
  }

  @Override
  public RDD<InternalRow> doExecute() {
    return child.execute();
  }

  @Override
  public Seq<Attribute> output() {
    return child.output();
  }

  /** None that rules may change: the plan below is ready to run. */
  @Override
  public Seq<SparkPlan> children() {
    return CollectionConverters.asScala(List.<SparkPlan>of()).toSeq();
  }

  /** For EXPLAIN. */
  @Override
  @SuppressWarnings({"rawtypes", "unchecked"}) // Scala's overrides have types here that Java's may not
  public Seq innerChildren() {
    return CollectionConverters.asScala(List.of(child)).toSeq();
  }

  @Override
  public SparkPlan withNewChildrenInternal(IndexedSeq<SparkPlan> children) {
    return this;
  }

  @Override
  public int productArity() {
    return 1;
  }

  @Override
  public Object productElement(int number) {
    return child;
  }

  @Override
  public boolean canEqual(Object other) {
    return other instanceof HereExec;
  }
}
