package lake.guard;

import java.util.List;
import org.apache.spark.sql.SparkSession;
import org.apache.spark.sql.catalyst.expressions.AttributeReference;
import org.apache.spark.sql.catalyst.expressions.EqualTo;
import org.apache.spark.sql.catalyst.expressions.Expression;
import org.apache.spark.sql.catalyst.expressions.In;
import org.apache.spark.sql.catalyst.expressions.Literal;
import org.apache.spark.sql.catalyst.plans.logical.Filter;
import org.apache.spark.sql.catalyst.plans.logical.LogicalPlan;
import org.apache.spark.sql.catalyst.rules.Rule;
import org.apache.spark.sql.execution.datasources.HadoopFsRelation;
import org.apache.spark.sql.execution.datasources.LogicalRelation;
import scala.jdk.javaapi.CollectionConverters;
import scala.runtime.AbstractPartialFunction;

/**
 * Of one meterpoint, or of a few, a table with a partition a date is read by few tasks. Its files are sorted by meterpoint,
 * and each has a day of one at most, so nearly all rows are skipped. Of other tables one meterpoint may have any number of
 * rows, more than a task may give. Tasks of the size that is right for whole tables (jobs/thrift_server.py) would open each
 * file some times to find that out: a year of one meterpoint then takes six times as long. It comes after conditions were
 * moved down to the tables.
 *
 * <p>How much a task reads is a setting of the session that a table in a plan knows. So these tables get one of their own.
 */
public final class FewTasks extends Rule<LogicalPlan> {
  private static final String SORTED_BY = "meterpoint_id";
  private static final String DATE = "date";
  private static final int FEW = 10;
  private static final String OF_TASK = "spark.sql.files.maxPartitionBytes";
  /** As much as Spark gives to a task by default. */
  private static final String MUCH = "128m";
  /** Spark compares tables by their options, and would keep one that seems to be the same. */
  private static final String MARK = "lake.tasks";

  private static SparkSession session;

  @Override
  public LogicalPlan apply(LogicalPlan plan) {
    return plan.exists(FewTasks::isOfFew) ? (LogicalPlan) plan.transformUp(REPLACE) : plan;
  }

  private static final AbstractPartialFunction<LogicalPlan, LogicalPlan> REPLACE = new AbstractPartialFunction<>() {
    @Override
    public boolean isDefinedAt(LogicalPlan node) {
      return isOfFew(node);
    }

    @Override
    public LogicalPlan apply(LogicalPlan node) {
      Filter filter = (Filter) node;
      LogicalRelation read = (LogicalRelation) filter.child();
      HadoopFsRelation table = (HadoopFsRelation) read.relation();
      HadoopFsRelation same = new HadoopFsRelation(table.location(), table.partitionSchema(), table.dataSchema(),
          table.bucketSpec(), table.fileFormat(), table.options().updated(MARK, "few"), session(table.sparkSession()));
      return new Filter(filter.condition(),
          read.copy(same, read.output(), read.catalogTable(), read.isStreaming(), read.stream()));
    }
  };

  private static synchronized SparkSession session(SparkSession any) {
    if (session == null) {
      SparkSession made = any.newSession();
      made.conf().set(OF_TASK, MUCH);
      session = made;
    }
    return session;
  }

  private static boolean isOfFew(LogicalPlan node) {
    return node instanceof Filter filter && filter.child() instanceof LogicalRelation read
        && read.relation() instanceof HadoopFsRelation table && !table.options().contains(MARK) && isOfDates(table)
        && NoLate.conditions(filter.condition()).stream().anyMatch(FewTasks::namesFew);
  }

  private static boolean isOfDates(HadoopFsRelation table) {
    return List.of(table.partitionSchema().fieldNames()).contains(DATE);
  }

  private static boolean namesFew(Expression condition) {
    if (condition instanceof EqualTo equal) {
      return isName(equal.left()) && equal.right() instanceof Literal || isName(equal.right()) && equal.left() instanceof Literal;
    }
    return condition instanceof In some && isName(some.value()) && some.list().size() <= FEW
        && CollectionConverters.asJava(some.list()).stream().allMatch(name -> name instanceof Literal);
  }

  private static boolean isName(Expression expression) {
    return expression instanceof AttributeReference column && column.name().equals(SORTED_BY);
  }
}
