package lake.guard;

import static lake.guard.Scala.seq;

import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.stream.Collectors;
import org.apache.spark.sql.catalyst.expressions.And;
import org.apache.spark.sql.catalyst.expressions.Attribute;
import org.apache.spark.sql.catalyst.expressions.Expression;
import org.apache.spark.sql.catalyst.expressions.SubqueryExpression;
import org.apache.spark.sql.catalyst.optimizer.InferFiltersFromConstraints$;
import org.apache.spark.sql.catalyst.optimizer.PushDownPredicates$;
import org.apache.spark.sql.catalyst.plans.LeftAnti$;
import org.apache.spark.sql.catalyst.plans.logical.Filter;
import org.apache.spark.sql.catalyst.plans.logical.Join;
import org.apache.spark.sql.catalyst.plans.logical.LocalRelation;
import org.apache.spark.sql.catalyst.plans.logical.LogicalPlan;
import org.apache.spark.sql.catalyst.rules.Rule;
import org.apache.spark.sql.execution.datasources.CatalogFileIndex;
import org.apache.spark.sql.execution.datasources.HadoopFsRelation;
import org.apache.spark.sql.execution.datasources.LogicalRelation;
import scala.Option;
import scala.collection.immutable.Seq;
import scala.jdk.javaapi.CollectionConverters;
import scala.runtime.AbstractPartialFunction;

/**
 * The late layer of dates that have none, as nearly all, is no rows. What the views of sql/gold/V023 do with these Spark then
 * leaves out, so a query is planned as if its tables had no layers. It comes after conditions were moved down to the tables,
 * and before Spark looks for plans without rows.
 */
final class NoLate extends Rule<LogicalPlan> {
  private static final String LATE = "late";

  @Override
  public LogicalPlan apply(LogicalPlan plan) {
    return plan.exists(NoLate::isLate) ? (LogicalPlan) ((LogicalPlan) plan.transformUp(SAME_DATES)).transformUp(NO_ROWS) : plan;
  }

  /** Dates that are asked of the base are asked of the late layer, too. Spark does that, but not with dates it has inferred. */
  private static final AbstractPartialFunction<LogicalPlan, LogicalPlan> SAME_DATES = new AbstractPartialFunction<>() {
    @Override
    public boolean isDefinedAt(LogicalPlan node) {
      return node instanceof Join join && join.joinType() == LeftAnti$.MODULE$ && join.right().exists(NoLate::isLate);
    }

    @Override
    public LogicalPlan apply(LogicalPlan node) {
      return PushDownPredicates$.MODULE$.apply(InferFiltersFromConstraints$.MODULE$.apply(node));
    }
  };

  private static final AbstractPartialFunction<LogicalPlan, LogicalPlan> NO_ROWS = new AbstractPartialFunction<>() {
    @Override
    public boolean isDefinedAt(LogicalPlan node) {
      return isLate(node) && isEmpty((Filter) node);
    }

    @Override
    public LogicalPlan apply(LogicalPlan node) {
      Seq<Attribute> columns = node.output();
      return new LocalRelation(columns, seq(List.of()), false, Option.empty());
    }
  };

  /** Whether the node reads the late layer of a table, and no other. */
  private static boolean isLate(LogicalPlan node) {
    return node instanceof Filter filter && filter.child() instanceof LogicalRelation read
        && read.relation() instanceof HadoopFsRelation table && table.location() instanceof CatalogFileIndex files
        && files.table().partitionColumnNames().contains(CachedCatalog.LAYER)
        && conditions(filter.condition()).stream().anyMatch(condition -> LATE.equals(CachedCatalog.layer(condition)));
  }

  private static boolean isEmpty(Filter late) {
    LogicalRelation read = (LogicalRelation) late.child();
    CatalogFileIndex files = (CatalogFileIndex) ((HadoopFsRelation) read.relation()).location();
    Set<Object> partitions = CollectionConverters.asJava(read.output()).stream()
        .filter(column -> files.table().partitionColumnNames().contains(column.name()))
        .map(Attribute::exprId).collect(Collectors.toSet());
    List<Expression> conditions = conditions(late.condition()).stream()
        .filter(condition -> condition.deterministic() && !SubqueryExpression.hasSubquery(condition)
            && CollectionConverters.asJava(condition.references().toSeq()).stream()
                .allMatch(column -> partitions.contains(column.exprId())))
        .toList();
    return files.filterPartitions(seq(conditions)).inputFiles().length == 0;
  }

  static List<Expression> conditions(Expression condition) {
    if (!(condition instanceof And both)) {
      return List.of(condition);
    }
    List<Expression> all = new ArrayList<>(conditions(both.left()));
    all.addAll(conditions(both.right()));
    return all;
  }
}
