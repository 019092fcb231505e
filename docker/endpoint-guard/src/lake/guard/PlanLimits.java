package lake.guard;

import static lake.guard.Scala.seq;

import java.util.List;
import org.apache.spark.SparkContext;
import org.apache.spark.sql.SparkSession;
import org.apache.spark.sql.catalyst.expressions.Attribute;
import org.apache.spark.sql.catalyst.expressions.Expression;
import org.apache.spark.sql.catalyst.plans.logical.Aggregate;
import org.apache.spark.sql.catalyst.plans.logical.GlobalLimit;
import org.apache.spark.sql.catalyst.plans.logical.LogicalPlan;
import org.apache.spark.sql.catalyst.plans.logical.ReturnAnswer;
import org.apache.spark.sql.execution.SparkPlan;
import org.apache.spark.sql.execution.SparkStrategy;
import org.apache.spark.sql.execution.datasources.CatalogFileIndex;
import org.apache.spark.sql.execution.datasources.FileIndex;
import org.apache.spark.sql.execution.datasources.HadoopFsRelation;
import org.apache.spark.sql.execution.datasources.LogicalRelation;
import org.apache.spark.sql.internal.SQLConf;
import org.apache.spark.sql.types.VariantType;
import scala.collection.immutable.Seq;
import scala.jdk.javaapi.CollectionConverters;

/**
 * What a query may read, and how its result is handed over: decided when Spark has chosen the partitions that are needed,
 * and before any of them is read. As a planner's strategy it sees each optimised plan, and plans nothing.
 *
 * <p>Files of more than {@code spark.lake.query.scanBytes} are refused (a subquery is counted by itself). Rows of many files
 * that are neither aggregated nor limited are handed over while they are read, a task's at a time, because the server would
 * otherwise hold them all in memory; {@link RunLimits} stops other results that are too large. Not every result is handed
 * over so, because what is done while a client fetches cannot be cancelled.
 */
final class PlanLimits extends SparkStrategy {
  static final String STREAM = "spark.sql.thriftServer.incrementalCollect";
  /** Set in a session while it is this class, and not the client, that has set STREAM there. */
  static final String STREAM_IS_OURS = "spark.lake.streamed";
  /** Property of a job: its result is held in memory. Undecided from a statement's parsing to its planning. */
  static final String RESULT = "lake.result";
  static final String UNDECIDED = "undecided";
  static final String HELD = "held";
  static final String STREAMED = "streamed";

  private final SparkSession session;
  private final long readLimit;
  private final long streamFrom;

  PlanLimits(SparkSession session) {
    this.session = session;
    this.readLimit = session.sparkContext().conf().getLong("spark.lake.query.scanBytes", Long.MAX_VALUE);
    // Rows take several times as much as the files they come from.
    this.streamFrom = session.sparkContext().conf().getLong("spark.lake.query.resultBytes", Long.MAX_VALUE) / 8;
  }

  @Override
  public Seq<SparkPlan> apply(LogicalPlan plan) {
    if (plan instanceof ReturnAnswer) {
      RunLimits.planning(session.sparkContext().getLocalProperty("spark.jobGroup.id"));
      for (Attribute column : CollectionConverters.asJava(plan.output())) {
        if (column.dataType() instanceof VariantType) {
          throw Guard.error("[UNSUPPORTED] column " + Guard.oneLine(column.name()) + " is a VARIANT, which clients cannot be sent:"
              + " write it as text, to_json(…), or take values out of it, variant_get(…)");
        }
      }
      long bytes = 0;
      for (LogicalPlan leaf : CollectionConverters.asJava(plan.collectLeaves())) {
        if (leaf instanceof LogicalRelation table && table.relation() instanceof HadoopFsRelation files) {
          bytes += size(files.location());
        }
      }
      if (bytes > readLimit) {
        throw Guard.error("[LIMIT] query refused: it would read files of " + (bytes >> 20) + " MiB, and " + (readLimit >> 20)
            + " MiB are allowed: name fewer dates (WHERE date BETWEEN …)");
      }
      // The plans of subqueries follow that of their statement.
      SparkContext spark = session.sparkContext();
      if (UNDECIDED.equals(spark.getLocalProperty(RESULT))) {
        boolean rows = !plan.exists(node -> node instanceof Aggregate || node instanceof GlobalLimit);
        spark.setLocalProperty(RESULT, stream(rows && bytes > streamFrom) ? STREAMED : HELD);
      }
    }
    return seq(List.<SparkPlan>of());
  }

  /** A table whose partitions no filter has chosen does not know its size yet; to run, it would be listed all the same. */
  private static long size(FileIndex files) {
    return files instanceof CatalogFileIndex all
        ? all.filterPartitions(seq(List.<Expression>of())).sizeInBytes()
        : files.sizeInBytes();
  }

  /** Makes the statement's result be handed over piece by piece, or not; always, if the client has asked for it. */
  private boolean stream(boolean stream) {
    SQLConf conf = Check.state(session).conf();
    boolean streaming = Boolean.parseBoolean(conf.getConfString(STREAM));
    if (streaming && !Boolean.parseBoolean(conf.getConfString(STREAM_IS_OURS, "false"))) {
      return true;
    }
    if (streaming != stream) {
      conf.setConfString(STREAM, String.valueOf(stream));
      conf.setConfString(STREAM_IS_OURS, String.valueOf(stream));
    }
    return stream;
  }
}
