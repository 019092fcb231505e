package lake.guard;

import static lake.guard.Scala.seq;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.stream.Collectors;
import org.apache.spark.sql.SparkSession;
import org.apache.spark.sql.catalyst.TableIdentifier;
import org.apache.spark.sql.catalyst.analysis.SQLFunctionNode;
import org.apache.spark.sql.catalyst.catalog.CatalogTable;
import org.apache.spark.sql.catalyst.expressions.Alias;
import org.apache.spark.sql.catalyst.expressions.Attribute;
import org.apache.spark.sql.catalyst.expressions.Expression;
import org.apache.spark.sql.catalyst.expressions.NamedExpression;
import org.apache.spark.sql.catalyst.expressions.SubqueryExpression;
import org.apache.spark.sql.catalyst.parser.ParseException;
import org.apache.spark.sql.catalyst.plans.logical.LogicalPlan;
import org.apache.spark.sql.catalyst.plans.logical.Project;
import org.apache.spark.sql.catalyst.plans.logical.View;
import org.apache.spark.sql.catalyst.rules.Rule;
import org.apache.spark.sql.catalyst.trees.TreeNodeTag;
import org.apache.spark.sql.execution.datasources.LogicalRelation;
import org.apache.spark.sql.types.NumericType;
import scala.Option;
import scala.jdk.javaapi.CollectionConverters;
import scala.runtime.AbstractFunction1;
import scala.runtime.AbstractPartialFunction;

/**
 * Analysts see no sums of a product or region that has fewer meterpoints than LAKE_MIN_GROUP: the numbers of such a row are null.
 * So that they do not follow from the total, the next larger groups of the same time are hidden with it, until all that are
 * hidden have as many meterpoints together. It holds for each view and mart that has such a group and a number of meterpoints.
 */
final class SmallGroups extends Rule<LogicalPlan> {
  private static final int LEAST = Integer.parseInt("0" + System.getenv().getOrDefault("LAKE_MIN_GROUP", ""));
  private static final List<String> GROUPS = List.of("product_display_name", "region");
  /** Numbers that are no measures. */
  private static final Set<String> KEYS = Set.of("year", "iso_year", "iso_week", "day_count", "half_hours");
  /** How many meterpoints a row is of: a number, or a sum and what it is a sum over. */
  private static final Map<String, Set<String>> COUNTS = Map.of(
      "meterpoint_count", Set.of("meterpoint_count"),
      "try_divide(meterpoint_days, day_count)", Set.of("meterpoint_days", "day_count"),
      "try_divide(received_readings, half_hours)", Set.of("received_readings", "half_hours"));
  private static final TreeNodeTag<Boolean> DONE = new TreeNodeTag<>("lake.smallGroups");
  /** While the query is analysed that stands for a view. */
  private static final ThreadLocal<Boolean> INSIDE = ThreadLocal.withInitial(() -> false);

  private final SparkSession session;

  SmallGroups(SparkSession session) {
    this.session = session;
  }

  @Override
  public LogicalPlan apply(LogicalPlan plan) {
    return LEAST == 0 || INSIDE.get() || Protect.seesIds() || Check.viewIsResolved() ? plan : without(plan);
  }

  /** Only what a statement itself names: a view over others must read them whole. */
  private LogicalPlan without(LogicalPlan node) {
    if (node.getTagValue(DONE).isDefined() || node instanceof SQLFunctionNode) {
      return node;
    }
    Option<CatalogTable> table = node instanceof View view ? Option.apply(view.desc())
        : node instanceof LogicalRelation read ? read.catalogTable() : Option.empty();
    if (table.isDefined()) {
      return query(table.get().identifier(), names(node)).map(query -> shown(node, query)).orElse(node);
    }
    LogicalPlan below = (LogicalPlan) node.mapChildren(new AbstractFunction1<>() {
      @Override
      public LogicalPlan apply(LogicalPlan child) {
        return without(child);
      }
    });
    return (LogicalPlan) below.transformExpressions(subqueries);
  }

  private final AbstractPartialFunction<Expression, Expression> subqueries = new AbstractPartialFunction<>() {
    @Override
    public boolean isDefinedAt(Expression expression) {
      return expression instanceof SubqueryExpression;
    }

    @Override
    public Expression apply(Expression expression) {
      SubqueryExpression subquery = (SubqueryExpression) expression;
      return subquery.withNewPlan(without(subquery.plan()));
    }
  };

  private static List<Attribute> columns(LogicalPlan node) {
    return CollectionConverters.asJava(node.output());
  }

  private static Map<String, Boolean> names(LogicalPlan node) {
    return columns(node).stream().collect(Collectors.toMap(
        column -> Guard.lower(column.name()), column -> column.dataType() instanceof NumericType, (one, other) -> one,
        java.util.LinkedHashMap::new));
  }

  /** The query that stands for a view or table: its columns, by name whether they are numbers; empty if it has no such groups. */
  static Optional<String> query(TableIdentifier table, Map<String, Boolean> columns) {
    return query(table.quotedString(), columns, LEAST);
  }

  static Optional<String> query(String table, Map<String, Boolean> columns, int least) {
    List<String> groups = GROUPS.stream().filter(columns::containsKey).toList();
    Optional<String> count = COUNTS.entrySet().stream().filter(entry -> columns.keySet().containsAll(entry.getValue()))
        .map(Map.Entry::getKey).sorted().findFirst();
    if (groups.isEmpty() || count.isEmpty()) {
      return Optional.empty();
    }
    List<String> keys = columns.keySet().stream()
        .filter(name -> !GROUPS.contains(name) && (!columns.get(name) || KEYS.contains(name) && !COUNTS.get(count.get()).contains(name)))
        .toList();
    List<String> hidden = new ArrayList<>(List.of("lake_count < " + least));
    for (String group : groups) {
      // Of two kinds of groups each has its totals.
      List<String> total = new ArrayList<>(keys);
      groups.stream().filter(other -> !other.equals(group)).forEach(total::add);
      String before = "coalesce(sum(lake_count) OVER (" + (total.isEmpty() ? "" : "PARTITION BY " + list(total) + " ")
          + "ORDER BY lake_count, " + group + " ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0)";
      hidden.add(before + " > 0 AND " + before + " < " + least);
    }
    String shown = columns.keySet().stream()
        .map(name -> columns.get(name) && !KEYS.contains(name) ? "if(lake_hidden, NULL, `" + name + "`) AS `" + name + "`" : "`" + name + "`")
        .collect(Collectors.joining(", "));
    return Optional.of("SELECT " + shown + " FROM (SELECT *, lake_count > 0 AND (" + String.join(" OR ", hidden) + ") AS lake_hidden"
        + " FROM (SELECT *, CAST(" + count.get() + " AS DOUBLE) AS lake_count FROM " + table + "))");
  }

  private static String list(List<String> names) {
    return names.stream().map(name -> "`" + name + "`").collect(Collectors.joining(", "));
  }

  /** What the query shows, under the attributes that the node had: what is above it stays as it is. */
  private LogicalPlan shown(LogicalPlan node, String query) {
    LogicalPlan plan;
    INSIDE.set(true);
    try {
      // As nodes of its own: Spark keeps that of a table for the session, and would find the mark on it the next time.
      plan = (LogicalPlan) Check.state(session).analyzer().execute(Check.state(session).sqlParser().parseQuery(query)).clone();
    } catch (ParseException error) {
      throw new IllegalStateException(error);
    } finally {
      INSIDE.set(false);
    }
    mark(plan);
    List<NamedExpression> shown = new ArrayList<>();
    for (int index = 0; index < columns(node).size(); index++) {
      Attribute before = columns(node).get(index);
      shown.add(new Alias((Expression) columns(plan).get(index), before.name(), before.exprId(), before.qualifier(),
          Option.apply(before.metadata()), seq(List.of())));
    }
    return new Project(seq(shown), plan);
  }

  private static void mark(LogicalPlan node) {
    node.setTagValue(DONE, true);
    CollectionConverters.asJava(node.children()).forEach(SmallGroups::mark);
  }
}
