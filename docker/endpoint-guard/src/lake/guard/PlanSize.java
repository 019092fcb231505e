package lake.guard;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.function.Function;
import org.apache.spark.sql.catalyst.analysis.ExpressionWithUnresolvedIdentifier;
import org.apache.spark.sql.catalyst.analysis.MultiAlias;
import org.apache.spark.sql.catalyst.analysis.PlanWithUnresolvedIdentifier;
import org.apache.spark.sql.catalyst.analysis.UnresolvedAlias;
import org.apache.spark.sql.catalyst.analysis.UnresolvedAttribute;
import org.apache.spark.sql.catalyst.analysis.UnresolvedFunction;
import org.apache.spark.sql.catalyst.analysis.UnresolvedInlineTable;
import org.apache.spark.sql.catalyst.analysis.UnresolvedRelation;
import org.apache.spark.sql.catalyst.analysis.UnresolvedStarBase;
import org.apache.spark.sql.catalyst.analysis.UnresolvedStarExceptOrReplace;
import org.apache.spark.sql.catalyst.analysis.UnresolvedSubqueryColumnAliases;
import org.apache.spark.sql.catalyst.analysis.UnresolvedTVFAliases;
import org.apache.spark.sql.catalyst.analysis.UnresolvedTableValuedFunction;
import org.apache.spark.sql.catalyst.analysis.UnresolvedTranspose;
import org.apache.spark.sql.catalyst.expressions.Alias;
import org.apache.spark.sql.catalyst.expressions.BaseGroupingSets;
import org.apache.spark.sql.catalyst.expressions.Cube;
import org.apache.spark.sql.catalyst.expressions.Expression;
import org.apache.spark.sql.catalyst.expressions.GroupingSets;
import org.apache.spark.sql.catalyst.expressions.In;
import org.apache.spark.sql.catalyst.expressions.Literal;
import org.apache.spark.sql.catalyst.expressions.NamedExpression;
import org.apache.spark.sql.catalyst.expressions.PipeExpression;
import org.apache.spark.sql.catalyst.expressions.Rollup;
import org.apache.spark.sql.catalyst.expressions.TimeWindow;
import org.apache.spark.sql.catalyst.expressions.UnresolvedWindowExpression;
import org.apache.spark.sql.catalyst.plans.logical.Aggregate;
import org.apache.spark.sql.catalyst.plans.logical.Generate;
import org.apache.spark.sql.catalyst.plans.logical.Join;
import org.apache.spark.sql.catalyst.plans.logical.LogicalPlan;
import org.apache.spark.sql.catalyst.plans.logical.Pivot;
import org.apache.spark.sql.catalyst.plans.logical.Project;
import org.apache.spark.sql.catalyst.plans.logical.Range;
import org.apache.spark.sql.catalyst.plans.logical.RebalancePartitions;
import org.apache.spark.sql.catalyst.plans.logical.Repartition;
import org.apache.spark.sql.catalyst.plans.logical.RepartitionByExpression;
import org.apache.spark.sql.catalyst.plans.logical.SetOperation;
import org.apache.spark.sql.catalyst.plans.logical.SubqueryAlias;
import org.apache.spark.sql.catalyst.plans.logical.Union;
import org.apache.spark.sql.catalyst.plans.logical.Unpivot;
import org.apache.spark.sql.catalyst.plans.logical.UnresolvedBinBy;
import org.apache.spark.sql.catalyst.plans.logical.UnresolvedWith;
import org.apache.spark.sql.catalyst.plans.logical.WithWindowDefinition;
import org.apache.spark.sql.types.ArrayType;
import org.apache.spark.sql.types.DataType;
import org.apache.spark.sql.types.MapType;
import org.apache.spark.sql.types.StructType;
import org.apache.spark.unsafe.types.UTF8String;
import scala.Option;
import scala.Product;
import scala.collection.Iterable;
import scala.collection.Iterator;
import scala.collection.immutable.Seq;
import scala.jdk.javaapi.CollectionConverters;

/**
 * How much work it is to plan a statement, which nothing can stop: its operators and expressions, once names stand for what
 * they name, as Spark writes them out; its joins, which take the optimiser longest; its grouping sets and windows of time;
 * and the tasks that it asks for. A name is one of WITH, a star, or a column that a subquery, or the same SELECT, has made.
 */
final class PlanSize {
  private static final long OPERATORS = 2_000;
  private static final long EXPRESSIONS = 200_000;
  private static final long JOINS = 50;
  /** With those of views and functions: those of `gold` have up to a dozen each. */
  private static final int JOINS_IN_ALL = 150;
  /** Of ROLLUP, CUBE and GROUPING SETS. Those of one GROUP BY multiply. */
  static final long GROUPING_SETS = 1 << 10;
  /** Of a row, where they overlap. */
  private static final long WINDOWS = 1_000;
  private static final int PARTITIONS = 10_000;
  /** Parts of one expression, but for the list of IN and constants: to compile them takes the square of their number. */
  private static final int PARTS = 1_000;
  /** Rounds of a WITH RECURSIVE: each adds to the plan. */
  private static final int ROUNDS = 1_000;
  /** Columns that TRANSPOSE makes of rows, at the most. */
  private static final int TRANSPOSED = 500;
  /** A text may be the names of so many columns, and a type too. */
  private static final int BYTES_OF_NAME = 16;
  private static final Set<String> MAKE_COLUMNS = Set.of("stack", "inline", "inline_outer", "json_tuple");

  private final Function<Expression, Seq<String>> identifier;
  private long groupingSets;
  /** Those like count(DISTINCT …). For each, a row is written with all of the others. */
  private long distinct;
  /** The largest definition of WINDOW, which each use of its name repeats. */
  private long window;

  private record Size(long operators, long expressions, long joins) {
    private static final Size NONE = new Size(0, 0, 0);

    private Size plus(Size other) {
      Size sum = new Size(operators + other.operators, expressions + other.expressions, joins + other.joins);
      if (sum.joins > JOINS) {
        throw tooManyJoins(JOINS);
      }
      if (sum.operators > OPERATORS || sum.expressions > EXPRESSIONS) {
        throw Guard.error("[LIMIT] query refused: with its names of WITH, its stars and its columns written out it has more than "
            + OPERATORS + " operators or " + EXPRESSIONS + " expressions: ask in several queries");
      }
      return sum;
    }
  }

  /** A part of the statement: with the columns that it has, if it is a query. */
  private record Part(Size size, Columns columns) {
    private Part and(Part other) {
      return new Part(size.plus(other.size), columns.and(other.columns));
    }
  }

  private static final Part NOTHING = new Part(Size.NONE, Columns.NONE);

  /** Where a name is looked for: what FROM has, what the same SELECT has named before, the query around it. */
  private record Scope(Map<String, Part> with, Columns from, Map<String, Long> before, Scope around) {
    private long size(String name) {
      // What has no name gets one of Spark.
      long size = Math.max(from.named(name), from.unnamed());
      if (from.named(name) > 0) {
        return size;
      }
      size = Math.max(size, before.getOrDefault(name, 1L));
      return around == null ? size : Math.max(size, around.size(name));
    }

    /** A name's parts may be a schema's, a table's, a column's and those of fields. */
    private long size(List<String> name) {
      return name.stream().mapToLong(part -> size(Guard.lower(part))).max().orElse(1);
    }
  }

  private PlanSize(Function<Expression, Seq<String>> identifier) {
    this.identifier = identifier;
  }

  /** Checks what the parser made; with a function that says what IDENTIFIER() names. */
  static void check(Object plan, Function<Expression, Seq<String>> identifier) {
    new PlanSize(identifier).part(plan, new Scope(Map.of(), Columns.NONE, Map.of(), null));
  }

  private Part part(Object node, Scope scope) {
    if (node instanceof UnresolvedWith with) {
      Map<String, Part> known = new HashMap<>(scope.with);
      Scope inside = new Scope(known, scope.from, scope.before, scope.around);
      Size sum = new Size(1, 0, 0);
      for (Object relation : CollectionConverters.asJava(with.cteRelations())) {
        Product named = (Product) relation;
        rounds((Option<?>) named.productElement(2));
        Part part = part(named.productElement(1), inside);
        known.put(Guard.lower((String) named.productElement(0)), part);
        sum = sum.plus(part.size);
      }
      Part asked = part(with.child(), inside);
      return new Part(sum.plus(asked.size), asked.columns);
    }
    if (node instanceof PlanWithUnresolvedIdentifier placeholder) {
      return part(placeholder.planBuilder().apply(identifier.apply(placeholder.identifierExpr()), placeholder.children()), scope);
    }
    if (node instanceof ExpressionWithUnresolvedIdentifier placeholder) {
      return part(written(placeholder), scope);
    }
    return node instanceof LogicalPlan plan ? plan(plan, scope)
        : node instanceof Expression expression ? expression(expression, scope)
        : node instanceof StructType || node instanceof ArrayType || node instanceof MapType
            ? new Part(expressions(((DataType) node).defaultSize() / 4), Columns.NONE)
        : node instanceof DataType ? NOTHING : elements(node, scope, List.of());
  }

  private Expression written(ExpressionWithUnresolvedIdentifier placeholder) {
    return placeholder.exprBuilder().apply(identifier.apply(placeholder.identifierExpr()), placeholder.otherExprs());
  }

  private Part elements(Object node, Scope scope, List<LogicalPlan> without) {
    Part sum = NOTHING;
    if (node instanceof Iterable<?> nodes) {
      for (Iterator<?> each = nodes.iterator(); each.hasNext(); ) {
        sum = sum.and(element(each.next(), scope, without));
      }
    } else if (node instanceof Product product) {
      for (int index = 0; index < product.productArity(); index++) {
        sum = sum.and(element(product.productElement(index), scope, without));
      }
    }
    return sum;
  }

  private static void rounds(Option<?> asked) {
    if (asked.isDefined() && ((Integer) asked.get() < 0 || (Integer) asked.get() > ROUNDS)) {
      throw Guard.error("[LIMIT] query refused: MAX RECURSION LEVEL is " + asked.get() + ", and " + ROUNDS + " are allowed");
    }
  }

  private Part element(Object node, Scope scope, List<LogicalPlan> without) {
    if (without.isEmpty() || node instanceof Expression || node instanceof DataType) {
      return part(node, scope);
    }
    return node instanceof LogicalPlan ? without.stream().anyMatch(plan -> plan == node) ? NOTHING : part(node, scope)
        : elements(node, scope, without);
  }

  private static Size expressions(long count) {
    return Size.NONE.plus(new Size(0, count, 0));
  }

  // --- operators -----------------------------------------------------------------------------------------------------

  /** Calls itself once for each operator below: what it keeps meanwhile is little. */
  private Part plan(LogicalPlan plan, Scope scope) {
    if (plan instanceof UnresolvedRelation relation) {
      return relation(relation, scope);
    }
    if (plan instanceof WithWindowDefinition windows) {
      window(windows, scope);
    }
    Size size = new Size(1, 0, plan instanceof Join ? 1 : 0);
    Columns from = Columns.NONE;
    Columns over = null;
    for (Object child : CollectionConverters.asJava(plan.children())) {
      Part part = part(child, scope);
      size = size.plus(part.size);
      from = from.and(part.columns);
      over = over == null ? part.columns : over.over(part.columns);
    }
    return operator(plan, new Scope(scope.with, from, new HashMap<>(), scope), over, size);
  }

  private static Part relation(UnresolvedRelation relation, Scope scope) {
    Size size = new Size(1, 0, 0);
    String name = Guard.lower(relation.multipartIdentifier().last());
    Part named = relation.multipartIdentifier().size() == 1 ? scope.with.get(name) : null;
    return named == null ? new Part(size, Columns.ofTable(name)) : new Part(size.plus(named.size), named.columns.in(name));
  }

  private void window(WithWindowDefinition windows, Scope scope) {
    Scope nothing = new Scope(scope.with, Columns.NONE, Map.of(), null);
    window = Math.max(window, elements(windows.windowDefinitions(), nothing, List.of()).size.expressions);
  }

  /** With all that is below it counted, which is the scope's FROM. */
  private Part operator(LogicalPlan plan, Scope inside, Columns over, Size size) {
    Columns from = inside.from;
    if (plan instanceof Project project) {
      Part made = select(project.projectList(), inside);
      return new Part(size.plus(made.size), made.columns);
    }
    if (plan instanceof Aggregate aggregate) {
      Part made = select(aggregate.aggregateExpressions(), inside);
      Size grouped = elements(aggregate.groupingExpressions(), inside, List.of()).size;
      long sets = groupingSets(aggregate);
      // Each has what it groups by, and all that it groups.
      grouped = sets == 1 ? grouped : grouped.plus(expressions(sets * (grouped.expressions + from.count())));
      return new Part(size.plus(made.size).plus(grouped), made.columns);
    }
    Part own = elements(plan, inside, CollectionConverters.asJava(plan.children()));
    // Each operator keeps the columns of what is below it.
    size = size.plus(own.size).plus(expressions(from.count()));
    Columns columns = plan instanceof Union || plan instanceof SetOperation ? over : from.and(own.columns);
    if (plan instanceof SubqueryAlias alias) {
      columns = from.in(Guard.lower(alias.alias()));
    } else if (plan instanceof UnresolvedSubqueryColumnAliases aliases) {
      columns = from.renamed(CollectionConverters.asJava(aliases.outputColumnNames()));
    } else if (plan instanceof UnresolvedTVFAliases aliases) {
      columns = from.renamed(CollectionConverters.asJava(aliases.outputNames()));
    } else if (plan instanceof Pivot pivot) {
      long values = pivot.pivotValues().size();
      long each = elements(pivot.aggregates(), inside, List.of()).size.expressions;
      size = size.plus(expressions(values * each));
      columns = from.and(Columns.unnamed(each, values * pivot.aggregates().size()));
    } else if (plan instanceof Generate generate && !generate.generatorOutput().isEmpty()) {
      List<String> names = CollectionConverters.asJava(generate.generatorOutput()).stream().map(NamedExpression::name).toList();
      columns = columns.and(Columns.unnamed(own.size.expressions, 1).renamed(names));
    } else if (plan instanceof UnresolvedTranspose) {
      columns = Columns.unnamed(1, TRANSPOSED);
    } else if (plan instanceof Generate || plan instanceof Unpivot || plan instanceof UnresolvedBinBy
        || plan instanceof UnresolvedTableValuedFunction) {
      columns = columns.and(Columns.unnamed(Math.max(1, own.size.expressions), Math.max(1, own.size.expressions)));
    } else if (plan instanceof UnresolvedInlineTable table) {
      columns = rows(table, inside);
    }
    return new Part(size, columns);
  }

  private Columns rows(UnresolvedInlineTable table, Scope scope) {
    long largest = 1;
    for (Seq<Expression> row : CollectionConverters.asJava(table.rows())) {
      for (Expression value : CollectionConverters.asJava(row)) {
        largest = Math.max(largest, part(value, scope).size.expressions);
      }
    }
    return Columns.unnamed(largest, table.names().size()).renamed(CollectionConverters.asJava(table.names()));
  }

  private long groupingSets(Aggregate aggregate) {
    long sets = 1;
    for (Expression expression : CollectionConverters.asJava(aggregate.groupingExpressions())) {
      if (expression instanceof BaseGroupingSets) {
        long more = expression instanceof Cube cube ? 1L << Math.min(30, cube.groupingSetIndexes().size())
            : expression instanceof Rollup rollup ? rollup.groupingSetIndexes().size() + 1
            : ((GroupingSets) expression).groupingSetIndexes().size();
        sets = Math.min(GROUPING_SETS + 1, sets * Math.max(1, more));
      }
    }
    groupingSets += sets == 1 ? 0 : sets;
    checkGroupingSets(groupingSets);
    return sets;
  }

  static void checkGroupingSets(long sets) {
    if (sets > GROUPING_SETS) {
      throw Guard.error("[LIMIT] query refused: its ROLLUP, CUBE and GROUPING SETS are more than " + GROUPING_SETS
          + " grouping sets: name those that are needed in one GROUPING SETS");
    }
  }

  // --- columns -------------------------------------------------------------------------------------------------------

  /** What stands between SELECT and FROM. */
  private Part select(Seq<?> list, Scope scope) {
    Size size = Size.NONE;
    List<Columns.Column> columns = new ArrayList<>();
    for (Object each : CollectionConverters.asJava(list)) {
      Object node = each;
      while (node instanceof PipeExpression || node instanceof UnresolvedAlias || node instanceof ExpressionWithUnresolvedIdentifier) {
        node = node instanceof ExpressionWithUnresolvedIdentifier placeholder ? written(placeholder) : ((Product) node).productElement(0);
      }
      if (node instanceof UnresolvedStarBase star) {
        Part named = star(star, scope);
        size = size.plus(expressions(named.columns.count())).plus(named.size);
        columns.addAll(named.columns.in(null).all());
        continue;
      }
      Object value = node instanceof Alias || node instanceof MultiAlias ? ((Product) node).productElement(0) : node;
      Size whole = part(value, scope).size;
      // A column that only gets another name is not written twice.
      size = size.plus(value instanceof UnresolvedAttribute ? expressions(2) : whole);
      long expressions = whole.expressions;
      String name = node instanceof Alias alias ? Guard.lower(alias.name())
          : node instanceof UnresolvedAttribute attribute ? Guard.lower(attribute.nameParts().last()) : null;
      boolean makesMore = node instanceof MultiAlias || value instanceof UnresolvedFunction function
          && MAKE_COLUMNS.contains(Guard.lower(function.nameParts().last()));
      columns.add(new Columns.Column(null, makesMore ? null : name, expressions, makesMore ? expressions : 1));
      if (name != null) {
        scope.before.merge(name, expressions, Math::max);
      }
    }
    return new Part(size, new Columns(columns));
  }

  private Part star(UnresolvedStarBase star, Scope scope) {
    Columns columns = star.target().isEmpty() ? scope.from
        : scope.from.star(CollectionConverters.asJava(star.target().get()).stream().map(Guard::lower).toList());
    if (star instanceof UnresolvedStarExceptOrReplace other && other.replacements().isDefined()) {
      Part others = select(other.replacements().get(), scope);
      return new Part(others.size, columns.and(others.columns));
    }
    return new Part(elements(star, scope, List.of()).size, columns);
  }

  private Part expression(Expression expression, Scope scope) {
    if (expression instanceof UnresolvedAttribute attribute) {
      return new Part(expressions(scope.size(CollectionConverters.asJava(attribute.nameParts()))), Columns.NONE);
    }
    if (expression instanceof Literal literal) {
      return new Part(expressions(1 + (literal.value() instanceof UTF8String text ? text.numBytes() / BYTES_OF_NAME : 0)), Columns.NONE);
    }
    if (expression instanceof UnresolvedStarBase star) {
      Part named = star(star, scope);
      return new Part(named.size.plus(expressions(named.columns.size())), Columns.NONE);
    }
    if (!(expression instanceof In) && expression.children().size() > PARTS
        && !CollectionConverters.asJava(expression.children()).stream().allMatch(part -> part instanceof Literal)) {
      throw Guard.error("[LIMIT] query refused: it has a " + expression.prettyName() + " of more than " + PARTS
          + " parts: join with VALUES, or use IN");
    }
    Part own = elements(expression, scope, List.of());
    long more = expression instanceof UnresolvedWindowExpression ? window
        : expression instanceof UnresolvedFunction function
            ? windows(function) * scope.from.count() + (function.isDistinct() ? ++distinct : 0) : 0;
    return new Part(own.size.plus(expressions(1 + more)), own.columns);
  }

  /** Into how many windows of time a function puts a row. Each is written as a row of its own. */
  private static long windows(UnresolvedFunction function) {
    List<Expression> arguments = CollectionConverters.asJava(function.arguments());
    if (!Guard.lower(function.nameParts().last()).equals("window") || arguments.size() < 3) {
      return 0;
    }
    long length;
    long slide;
    try {
      length = TimeWindow.parseExpression(arguments.get(1));
      slide = TimeWindow.parseExpression(arguments.get(2));
    } catch (Exception error) {
      throw Guard.error("[LIMIT] query refused: the length and the slide of a window must be written as they are, '1 hour'");
    }
    if (slide > 0 && length / slide > WINDOWS) {
      throw Guard.error("[LIMIT] query refused: its windows of time put a row into " + length / slide + " of them, and "
          + WINDOWS + " are allowed: take a longer slide");
    }
    return slide > 0 ? length / slide + 1 : 0;
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
