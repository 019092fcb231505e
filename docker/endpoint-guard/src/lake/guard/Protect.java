package lake.guard;

import static lake.guard.Scala.seq;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.stream.Collectors;
import org.apache.spark.sql.SparkSession;
import org.apache.spark.sql.catalyst.CurrentUserContext$;
import org.apache.spark.sql.catalyst.TableIdentifier;
import org.apache.spark.sql.catalyst.catalog.HiveTableRelation;
import org.apache.spark.sql.catalyst.expressions.Alias;
import org.apache.spark.sql.catalyst.expressions.AttributeReference;
import org.apache.spark.sql.catalyst.expressions.Expression;
import org.apache.spark.sql.catalyst.expressions.Literal;
import org.apache.spark.sql.catalyst.expressions.NamedExpression;
import org.apache.spark.sql.catalyst.expressions.SubqueryExpression;
import org.apache.spark.sql.catalyst.plans.logical.LogicalPlan;
import org.apache.spark.sql.catalyst.plans.logical.Project;
import org.apache.spark.sql.catalyst.rules.Rule;
import org.apache.spark.sql.execution.datasources.LogicalRelation;
import org.apache.spark.sql.types.MetadataBuilder;
import scala.Option;
import scala.collection.immutable.Seq;
import scala.jdk.javaapi.CollectionConverters;
import scala.runtime.AbstractPartialFunction;

/**
 * Analysts see pseudonyms, and no accounts. Directly above each table that has such a column stands a projection that puts the
 * pseudonym into its place. So whatever is done with the column, in a view, a filter, a join or an error's text, is done with
 * the pseudonym: no statement can ask about an id. It holds for tables by the names of their columns, so for views too, whatever
 * they call them. The rule works on what analysis made of a statement, and {@link #check} makes sure that it did.
 */
final class Protect extends Rule<LogicalPlan> {
  private static final boolean ON = !"false".equals(System.getenv("LAKE_PSEUDONYMS"));
  private static final String KEY = System.getenv("LAKE_PSEUDONYM_KEY");
  /** What a column of this name has for analysts. The path of a file names its meterpoint. */
  private static final Map<String, Pseudonyms> PROTECTED = !ON ? Map.of() : List.of("meterpoint_id", "source_file", "agreement_id")
      .stream().collect(Collectors.toUnmodifiableMap(column -> column, column -> Pseudonyms.of(KEY, column)));
  /** Columns of ids, of one meterpoint, agreement or account. Those that have no pseudonym are null. */
  private static final Set<String> IDS =
      Set.of("meterpoint_id", "source_file", "agreement_id", "account_id", "row_json", "content", "detail", "note");
  /** Marks, in a table below its projection, what must not be used elsewhere. */
  private static final String RAW = "lake.raw";

  private final SparkSession session;

  Protect(SparkSession session) {
    this.session = session;
  }

  /** At the start: fails without a key. */
  static void start() {
    System.err.println("endpoint-guard: analysts see " + (PROTECTED.isEmpty() ? "real ids" : "pseudonyms"));
  }

  private static boolean isFor(String role) {
    return ON && !Users.seesIds(role);
  }

  /** Whether the user who asks sees ids, and so all that they add up to. */
  static boolean seesIds() {
    return Users.seesIds(role());
  }

  private static String role() {
    return Users.role(CurrentUserContext$.MODULE$.CURRENT_USER().get());
  }

  @Override
  public LogicalPlan apply(LogicalPlan plan) {
    return isFor(role()) ? (LogicalPlan) plan.transformUpWithSubqueries(REPLACE) : plan;
  }

  private static final AbstractPartialFunction<LogicalPlan, LogicalPlan> REPLACE = new AbstractPartialFunction<>() {
    @Override
    public boolean isDefinedAt(LogicalPlan node) {
      return columns(node).stream().anyMatch(column -> isId(column) && !isRaw(column));
    }

    @Override
    public LogicalPlan apply(LogicalPlan node) {
      return replaced(node);
    }
  };

  /** The columns of a table; none for any other node. */
  private static List<AttributeReference> columns(LogicalPlan node) {
    if (node instanceof LogicalRelation table) {
      return CollectionConverters.asJava(table.output());
    }
    if (node instanceof HiveTableRelation table) {
      List<AttributeReference> columns = new ArrayList<>(CollectionConverters.asJava(table.dataCols()));
      columns.addAll(CollectionConverters.asJava(table.partitionCols()));
      return columns;
    }
    return List.of();
  }

  static boolean isId(String column) {
    return IDS.contains(Guard.lower(column));
  }

  private static boolean isId(AttributeReference column) {
    return isId(column.name());
  }

  private static boolean isRaw(AttributeReference column) {
    return column.metadata().contains(RAW);
  }

  /** The projection has the attributes that the table had, and the table new ones: what is above it stays as it is. */
  private static LogicalPlan replaced(LogicalPlan node) {
    LogicalPlan table;
    if (node instanceof LogicalRelation read) {
      table = read.copy(read.relation(), raw(read.output()), read.catalogTable(), read.isStreaming(), read.stream());
    } else {
      HiveTableRelation read = (HiveTableRelation) node;
      table = read.copy(read.tableMeta(), raw(read.dataCols()), raw(read.partitionCols()), read.tableStats(), read.prunedPartitions());
    }
    List<AttributeReference> before = columns(node);
    List<AttributeReference> after = columns(table);
    List<NamedExpression> shown = new ArrayList<>();
    for (int index = 0; index < before.size(); index++) {
      shown.add(isId(before.get(index)) ? shown(before.get(index), after.get(index)) : before.get(index));
    }
    return new Project(seq(shown), table);
  }

  private static Seq<AttributeReference> raw(Seq<AttributeReference> columns) {
    return seq(CollectionConverters.asJava(columns).stream().map(column -> isId(column) ? raw(column) : column).toList());
  }

  private static AttributeReference raw(AttributeReference column) {
    AttributeReference made = column.newInstance();
    return made.withMetadata(new MetadataBuilder().withMetadata(column.metadata()).putBoolean(RAW, true).build());
  }

  private static NamedExpression shown(AttributeReference column, AttributeReference raw) {
    Pseudonyms pseudonyms = PROTECTED.get(Guard.lower(column.name()));
    Expression value = pseudonyms == null ? new Literal(null, column.dataType()) : pseudonyms.of(raw);
    return new Alias(value, column.name(), column.exprId(), column.qualifier(), Option.apply(column.metadata()), seq(List.of()));
  }

  // --- the check -----------------------------------------------------------------------------------------------------

  /** Refuses an analysed statement in which an id could be seen, and notes for the log what it reads of single meterpoints. */
  void check(LogicalPlan plan) {
    boolean isFor = isFor(role());
    Set<String> tables = new TreeSet<>();
    walk(plan, null, isFor, tables);
    if (!tables.isEmpty()) {
      QueryLog.reads(session.sparkContext().getLocalProperty("spark.jobGroup.id"), tables, isFor ? "pseudonyms" : "real");
    }
  }

  private static void walk(LogicalPlan node, LogicalPlan above, boolean isFor, Set<String> tables) {
    List<AttributeReference> columns = columns(node);
    if (columns.stream().anyMatch(Protect::isId)) {
      tables.add(name(node));
      boolean safe = above instanceof Project && columns.stream().allMatch(column -> !isId(column) || isRaw(column));
      if (isFor && !safe) {
        throw Guard.refuse("this statement on ids");
      }
    }
    boolean over = node instanceof Project && columns(((Project) node).child()).stream().anyMatch(Protect::isRaw);
    for (Expression expression : CollectionConverters.asJava(node.expressions())) {
      if (isFor && columns.isEmpty() && !(over && isShown(expression)) && expression.exists(Protect::isRawUse)) {
        throw Guard.refuse("this statement on ids");
      }
      inside(expression, isFor, tables);
    }
    for (LogicalPlan child : CollectionConverters.asJava(node.children())) {
      walk(child, node, isFor, tables);
    }
    for (Object inner : CollectionConverters.asJava(node.innerChildren())) {
      if (inner instanceof LogicalPlan plan) {
        walk(plan, null, isFor, tables);
      }
    }
  }

  private static void inside(Expression expression, boolean isFor, Set<String> tables) {
    if (expression instanceof SubqueryExpression subquery) {
      walk(subquery.plan(), null, isFor, tables);
    }
    for (Expression child : CollectionConverters.asJava(expression.children())) {
      inside(child, isFor, tables);
    }
  }

  private static Boolean isRawUse(Expression expression) {
    return expression instanceof AttributeReference column && isRaw(column);
  }

  private static boolean isShown(Expression expression) {
    return expression instanceof Alias alias && Pseudonyms.is(alias.child());
  }

  /** For the log: that of a table in layers as people know it (sql/gold/V023). */
  private static String name(LogicalPlan node) {
    Option<TableIdentifier> name = node instanceof LogicalRelation read ? read.catalogTable().map(table -> table.identifier())
        : Option.apply(((HiveTableRelation) node).tableMeta().identifier());
    return name.isEmpty() ? "?"
        : name.get().database().getOrElse(() -> "?") + "." + name.get().table().replaceFirst("_by_layer$", "");
  }
}
