package lake.guard;

import java.util.HashMap;
import java.util.Map;
import org.apache.spark.sql.catalyst.analysis.UnresolvedRelation;
import org.apache.spark.sql.catalyst.expressions.BaseGroupingSets;
import org.apache.spark.sql.catalyst.expressions.Cube;
import org.apache.spark.sql.catalyst.expressions.Expression;
import org.apache.spark.sql.catalyst.plans.logical.Join;
import org.apache.spark.sql.catalyst.plans.logical.LogicalPlan;
import org.apache.spark.sql.catalyst.plans.logical.Range;
import org.apache.spark.sql.catalyst.plans.logical.RebalancePartitions;
import org.apache.spark.sql.catalyst.plans.logical.Repartition;
import org.apache.spark.sql.catalyst.plans.logical.RepartitionByExpression;
import org.apache.spark.sql.catalyst.plans.logical.UnresolvedWith;
import org.apache.spark.sql.types.DataType;
import scala.Option;
import scala.Product;
import scala.collection.Iterable;
import scala.collection.Iterator;
import scala.jdk.javaapi.CollectionConverters;

/**
 * How much work it is to plan a statement, which nothing can stop: its operators and expressions, once the names of WITH
 * stand for what they name, as Spark writes them out; its joins, which take the optimiser longest; the grouping sets of its
 * CUBEs; and the tasks that it asks for.
 */
final class PlanSize {
  private static final long OPERATORS = 2_000;
  private static final long EXPRESSIONS = 200_000;
  private static final long JOINS = 50;
  /** With those of views and functions: those of `gold` have up to a dozen each. */
  private static final int JOINS_IN_ALL = 150;
  private static final int CUBED = 10;
  private static final int PARTITIONS = 10_000;

  private int cubed;

  private record Size(long operators, long expressions, long joins) {
    private static final Size NONE = new Size(0, 0, 0);

    private Size plus(Size other) {
      Size sum = new Size(operators + other.operators, expressions + other.expressions, joins + other.joins);
      if (sum.joins > JOINS) {
        throw tooManyJoins(JOINS);
      }
      if (sum.operators > OPERATORS || sum.expressions > EXPRESSIONS) {
        throw Guard.error("[LIMIT] query refused: with its names of WITH written out it has more than " + OPERATORS
            + " operators or " + EXPRESSIONS + " expressions: ask in several queries");
      }
      return sum;
    }
  }

  private PlanSize() {}

  /** Checks what the parser made. */
  static void check(Object plan) {
    new PlanSize().size(plan, Map.of());
  }

  private Size size(Object node, Map<String, Size> names) {
    if (node instanceof UnresolvedWith with) {
      Map<String, Size> known = new HashMap<>(names);
      Size sum = new Size(1, 0, 0);
      for (Object relation : CollectionConverters.asJava(with.cteRelations())) {
        Product named = (Product) relation;
        Size size = size(named.productElement(1), known);
        known.put(Guard.lower((String) named.productElement(0)), size);
        sum = sum.plus(size);
      }
      return sum.plus(size(with.child(), known));
    }
    Size sum = node instanceof LogicalPlan ? new Size(1, 0, node instanceof Join ? 1 : 0)
        : node instanceof Expression ? new Size(0, 1, 0) : Size.NONE;
    if (node instanceof UnresolvedRelation relation && relation.multipartIdentifier().size() == 1) {
      return sum.plus(names.getOrDefault(Guard.lower(relation.multipartIdentifier().head()), Size.NONE));
    }
    if (node instanceof Cube cube) {
      cubed += ((BaseGroupingSets) cube).groupByExprs().size();
      if (cubed > CUBED) {
        throw Guard.error("[LIMIT] query refused: it has more than " + CUBED + " expressions in CUBE: use GROUPING SETS");
      }
    }
    if (node instanceof Iterable<?> nodes && !(node instanceof DataType)) {
      for (Iterator<?> each = nodes.iterator(); each.hasNext(); ) {
        sum = sum.plus(size(each.next(), names));
      }
    } else if (node instanceof Product product && !(node instanceof DataType)) {
      for (int index = 0; index < product.productArity(); index++) {
        sum = sum.plus(size(product.productElement(index), names));
      }
    }
    return sum;
  }

  private static RuntimeException tooManyJoins(long most) {
    return Guard.error("[LIMIT] query refused: it has more than " + most + " joins: ask in several queries");
  }

  /** Checks an analysed plan, in which views are unfolded. */
  static void joins(LogicalPlan plan) {
    int[] joins = {0};
    plan.foreachWithSubqueries(node -> {
      joins[0] += node instanceof Join ? 1 : 0;
      return null;
    });
    if (joins[0] > JOINS_IN_ALL) {
      throw tooManyJoins(JOINS_IN_ALL);
    }
  }

  /** Checks how many tasks an operator asks for. */
  static void partitions(LogicalPlan plan) {
    Option<?> asked = plan instanceof Range range ? range.numSlices()
        : plan instanceof Repartition repartition ? Option.apply(repartition.numPartitions())
        : plan instanceof RepartitionByExpression repartition ? repartition.optNumPartitions()
        : plan instanceof RebalancePartitions repartition ? repartition.optNumPartitions() : Option.empty();
    if (asked.isDefined() && (Integer) asked.get() > PARTITIONS) {
      throw Guard.error("[LIMIT] query refused: it asks for " + asked.get() + " partitions, and " + PARTITIONS + " are allowed");
    }
  }
}
