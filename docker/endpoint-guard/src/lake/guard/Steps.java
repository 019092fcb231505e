package lake.guard;

import static lake.guard.Scala.seq;

import java.util.List;
import java.util.Set;
import org.apache.spark.InterruptibleIterator;
import org.apache.spark.Partition;
import org.apache.spark.TaskContext;
import org.apache.spark.rdd.RDD;
import org.apache.spark.sql.catalyst.InternalRow;
import org.apache.spark.sql.catalyst.expressions.SortOrder;
import org.apache.spark.sql.catalyst.plans.LeftExistence$;
import org.apache.spark.sql.catalyst.plans.physical.Partitioning;
import org.apache.spark.sql.catalyst.rules.Rule;
import org.apache.spark.sql.execution.ColumnarRule;
import org.apache.spark.sql.execution.GenerateExec;
import org.apache.spark.sql.execution.SparkPlan;
import org.apache.spark.sql.execution.exchange.Exchange;
import org.apache.spark.sql.execution.joins.BaseJoinExec;
import org.apache.spark.sql.execution.joins.BroadcastHashJoinExec;
import org.apache.spark.sql.execution.joins.BroadcastNestedLoopJoinExec;
import org.apache.spark.sql.execution.joins.CartesianProductExec;
import org.apache.spark.sql.execution.joins.ShuffledHashJoinExec;
import org.apache.spark.sql.execution.joins.SortMergeJoinExec;
import scala.collection.Iterator;
import scala.collection.immutable.IndexedSeq;
import scala.collection.immutable.Seq;
import scala.jdk.javaapi.CollectionConverters;
import scala.reflect.ClassTag$;

/**
 * Of a join above a join, the rows of the lower one come one by one, and each is a moment at which the query can be stopped.
 *
 * <p>Spark's generated code makes all rows that one row of a table gives, in all joins above it, before it hands on the first:
 * with three tables of ten thousand rows that are a hundred million. Until then nothing stops it, no LIMIT either, and they
 * are all in memory.
 */
public final class Steps extends ColumnarRule {
  /** Such as make many rows of one. */
  private static final Set<Class<?>> MULTIPLY = Set.of(
      BroadcastHashJoinExec.class, BroadcastNestedLoopJoinExec.class, CartesianProductExec.class, GenerateExec.class,
      ShuffledHashJoinExec.class, SortMergeJoinExec.class);

  @Override
  public Rule<SparkPlan> preColumnarTransitions() {
    return new Rule<>() {
      @Override
      public SparkPlan apply(SparkPlan plan) {
        return inSteps(plan, false);
      }
    };
  }

  /** A join that only tells whether there is another row makes none. */
  private static boolean multiplies(SparkPlan plan) {
    return MULTIPLY.contains(plan.getClass())
        && !(plan instanceof BaseJoinExec join && LeftExistence$.MODULE$.unapply(join.joinType()).isDefined());
  }

  private static SparkPlan inSteps(SparkPlan plan, boolean below) {
    boolean multiplies = multiplies(plan);
    boolean belowThis = multiplies || below && !(plan instanceof Exchange);
    List<SparkPlan> children = CollectionConverters.asJava(plan.children());
    List<SparkPlan> changed = children.stream().map(child -> inSteps(child, belowThis)).toList();
    SparkPlan own = changed.equals(children) ? plan : (SparkPlan) plan.withNewChildren(seq(changed));
    return multiplies && below ? new StepExec(own) : own;
  }

  /** Spark generates no code across it. */
  public static final class StepExec extends TopExec {
    public StepExec(SparkPlan child) {
      super(child);
    }

    @Override
    public RDD<InternalRow> doExecute() {
      return new OneByOne(child.execute());
    }

    @Override
    public Partitioning outputPartitioning() {
      return child.outputPartitioning();
    }

    @Override
    public Seq<SortOrder> outputOrdering() {
      return child.outputOrdering();
    }

    @Override
    public SparkPlan withNewChildrenInternal(IndexedSeq<SparkPlan> children) {
      return new StepExec(children.head());
    }

    /** By this Spark finds what it need do but once. */
    @Override
    public boolean equals(Object other) {
      return other instanceof StepExec that && child.equals(that.child);
    }

    @Override
    public int hashCode() {
      return 31 * child.hashCode();
    }
  }

  /** Before each row a task looks whether it is to end. */
  private static final class OneByOne extends RDD<InternalRow> {
    OneByOne(RDD<InternalRow> rows) {
      super(rows, ClassTag$.MODULE$.apply(InternalRow.class));
    }

    @Override
    public Partition[] getPartitions() {
      return firstParent(elementClassTag()).partitions();
    }

    @Override
    public Iterator<InternalRow> compute(Partition split, TaskContext context) {
      RDD<InternalRow> rows = firstParent(elementClassTag());
      return new InterruptibleIterator<>(context, rows.iterator(split, context));
    }
  }
}
