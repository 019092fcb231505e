package lake.guard;

import static lake.guard.Scala.seq;

import java.io.IOException;
import java.io.InputStream;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import org.apache.hadoop.fs.Path;
import org.apache.spark.sql.SparkSession;
import org.apache.spark.sql.catalyst.CurrentUserContext$;
import org.apache.spark.sql.catalyst.FunctionIdentifier;
import org.apache.spark.sql.catalyst.TableIdentifier;
import org.apache.spark.sql.catalyst.analysis.ExpressionWithUnresolvedIdentifier;
import org.apache.spark.sql.catalyst.analysis.PlanWithUnresolvedIdentifier;
import org.apache.spark.sql.catalyst.analysis.ResolvedNamespace;
import org.apache.spark.sql.catalyst.analysis.ResolvedPersistentView;
import org.apache.spark.sql.catalyst.analysis.ResolvedTable;
import org.apache.spark.sql.catalyst.analysis.SQLFunctionNode;
import org.apache.spark.sql.catalyst.analysis.SQLScalarFunction;
import org.apache.spark.sql.catalyst.analysis.UnresolvedAttribute;
import org.apache.spark.sql.catalyst.analysis.UnresolvedFunction;
import org.apache.spark.sql.catalyst.analysis.UnresolvedGenerator;
import org.apache.spark.sql.catalyst.analysis.UnresolvedRelation;
import org.apache.spark.sql.catalyst.analysis.UnresolvedTableOrView;
import org.apache.spark.sql.catalyst.analysis.UnresolvedTableValuedFunction;
import org.apache.spark.sql.catalyst.catalog.CatalogTable;
import org.apache.spark.sql.catalyst.catalog.HiveTableRelation;
import org.apache.spark.sql.catalyst.expressions.AttributeReference;
import org.apache.spark.sql.catalyst.expressions.Expression;
import org.apache.spark.sql.catalyst.expressions.Literal;
import org.apache.spark.sql.catalyst.parser.ParseException;
import org.apache.spark.sql.catalyst.parser.ParserInterface;
import org.apache.spark.sql.catalyst.plans.logical.DeserializeToObject;
import org.apache.spark.sql.catalyst.plans.logical.LocalRelation;
import org.apache.spark.sql.catalyst.plans.logical.LogicalPlan;
import org.apache.spark.sql.catalyst.plans.logical.SetCatalogAndNamespace;
import org.apache.spark.sql.catalyst.plans.logical.View;
import org.apache.spark.sql.catalyst.util.StringUtils;
import org.apache.spark.sql.execution.command.DescribeDatabaseCommand;
import org.apache.spark.sql.execution.command.SetCommand;
import org.apache.spark.sql.execution.command.ShowFunctionsCommand;
import org.apache.spark.sql.execution.command.ShowNamespacesCommand;
import org.apache.spark.sql.execution.command.ShowTablesCommand;
import org.apache.spark.sql.execution.command.ShowViewsCommand;
import org.apache.spark.sql.execution.datasources.HadoopFsRelation;
import org.apache.spark.sql.execution.datasources.LogicalRelation;
import org.apache.spark.sql.internal.SessionState;
import scala.Option;
import scala.Product;
import scala.Tuple2;
import scala.collection.Iterator;
import scala.collection.immutable.Seq;
import scala.jdk.javaapi.CollectionConverters;

/** One check of one statement. */
final class Check {
  private static final Set<String> PLANS = list("plans.txt");
  private static final Set<String> FUNCTIONS = list("functions.txt");
  private static final String CATALOG = "spark_catalog";
  /** The schemas whose own SQL functions may be called. */
  private static final Set<String> FUNCTIONS_SCHEMAS = Set.of("gold", "silver");

  private static final String SPARK = "org.apache.spark.sql.";
  private static final List<String> EXPRESSION_PACKAGES =
      List.of(SPARK + "catalyst.expressions.", SPARK + "catalyst.analysis.");
  /** Expressions that no allowed function makes; they are here for names that only analysis resolves. */
  private static final Set<String> EXPRESSIONS_REFUSED = Set.of(
      "CallMethodViaReflection", "InputFileName", "InputFileBlockStart", "InputFileBlockLength", "ScalaUDF", "PythonUDF",
      "PythonUDAF", "PythonUDTF", "UserDefinedGenerator", "FromAvro", "ToAvro", "SchemaOfAvro", "FromProtobuf", "ToProtobuf",
      "XmlToStructs", "StructsToXml", "SchemaOfXml");

  private static final Pattern REGEX = Pattern.compile("[\\[\\](){}+?^\\\\]");

  private final SparkSession session;
  private final ParserInterface parser;
  private String role;
  private boolean subqueryInFunction;

  Check(SparkSession session, ParserInterface parser) {
    this.session = session;
    this.parser = parser;
  }

  static SessionState state(SparkSession session) {
    return ((org.apache.spark.sql.classic.SparkSession) session).sessionState();
  }

  /** Checks what the parser made: names are as the client wrote them. */
  void parsed(Object plan) throws ParseException {
    PlanSize.check(plan, this::named);
    walk(plan, false);
    if (subqueryInFunction) {
      permitAsWritten(plan);
    }
  }

  /** Checks what analysis made of it: names are resolved, views are unfolded. */
  void analysed(LogicalPlan plan) throws ParseException {
    // So Spark decodes the rows of every result. SQL has no way to write it.
    if (plan instanceof DeserializeToObject decode && decode.child() instanceof LocalRelation rows && rows.data().isEmpty()) {
      return;
    }
    PlanSize.joins(plan);
    walk(plan, true);
  }

  /** `named` is true for what the client named, and false inside views and functions, which read more than their reader may. */
  private void walk(Object node, boolean named) throws ParseException {
    if (node instanceof LogicalPlan plan) {
      plan(plan, named);
    } else if (node instanceof Expression expression) {
      expression(expression, named);
    } else if (node instanceof TableIdentifier table && named) {
      permit(table.database().isDefined() ? table.database().get() : currentSchema());
    } else if (node instanceof scala.collection.Iterable<?> nodes) {
      // A StructType is one, too: there is nothing in a schema.
      if (!(node instanceof org.apache.spark.sql.types.DataType)) {
        for (Iterator<?> each = nodes.iterator(); each.hasNext(); ) {
          walk(each.next(), named);
        }
      }
    } else if (node instanceof Product product && !(node instanceof CatalogTable)
        && !(node instanceof org.apache.spark.sql.execution.SparkPlan)
        && !(node instanceof org.apache.spark.sql.sources.BaseRelation)) {
      elements(product, named);
    }
  }

  private void elements(Product product, boolean named) throws ParseException {
    for (int index = 0; index < product.productArity(); index++) {
      walk(product.productElement(index), named);
    }
  }

  private void plan(LogicalPlan plan, boolean named) throws ParseException {
    String name = simpleName(plan);
    if (!PLANS.contains(name) || !plan.getClass().getName().startsWith(SPARK)) {
      throw Guard.refuse(words(name));
    }
    PlanSize.partitions(plan);
    if (name.startsWith("Show")) {
      names(plan);
    }
    boolean namedBelow = named;
    if (plan instanceof UnresolvedRelation relation) {
      relation(relation);
    } else if (plan instanceof UnresolvedTableOrView table) {
      tableName(table.multipartIdentifier());
    } else if (plan instanceof PlanWithUnresolvedIdentifier placeholder) {
      walk(placeholder.planBuilder().apply(identifier(placeholder.identifierExpr()), placeholder.children()), named);
    } else if (plan instanceof UnresolvedTableValuedFunction function) {
      function(strings(function.name()), function.functionArgs());
    } else if (plan instanceof SetCommand set) {
      set(set);
    } else if (plan instanceof SetCatalogAndNamespace) {
      return; // USE gives nothing to read
    } else if (plan instanceof View view) {
      relation(view.desc(), named);
      namedBelow = false;
    } else if (plan instanceof HiveTableRelation table) {
      relation(table.tableMeta(), named);
      inside(table.tableMeta().location());
    } else if (plan instanceof LogicalRelation table) {
      files(table, named);
    } else if (plan instanceof SQLFunctionNode function) {
      sqlFunction(function.function().name());
      namedBelow = false;
    } else if (named) {
      schema(plan);
    }
    elements(plan, namedBelow);
  }

  private void expression(Expression expression, boolean named) throws ParseException {
    String name = simpleName(expression);
    String className = expression.getClass().getName();
    if (EXPRESSIONS_REFUSED.contains(name) || EXPRESSION_PACKAGES.stream().noneMatch(className::startsWith)) {
      throw Guard.refuse("function " + name);
    }
    if (expression instanceof UnresolvedFunction function) {
      function(strings(function.nameParts()), function.arguments());
    } else if (expression instanceof UnresolvedGenerator generator) {
      FunctionIdentifier function = generator.name();
      List<String> parts = new ArrayList<>();
      if (function.database().isDefined()) {
        parts.add(function.database().get());
      }
      parts.add(function.funcName());
      function(parts, generator.children());
    } else if (expression instanceof ExpressionWithUnresolvedIdentifier placeholder) {
      walk(placeholder.exprBuilder().apply(identifier(placeholder.identifierExpr()), placeholder.otherExprs()), named);
    } else if (expression instanceof UnresolvedAttribute attribute) {
      for (String part : strings(attribute.nameParts())) {
        column(part);
      }
    } else if (expression instanceof AttributeReference attribute) {
      column(attribute.name());
    } else if (expression instanceof SQLScalarFunction function) {
      sqlFunction(function.function().name());
      walk(function.inputs(), named);
      walk(function.child(), false);
      return;
    }
    elements((Product) expression, named);
  }

  // --- names ---------------------------------------------------------------------------------------------------------

  /** A table has a plain name: no path in its place (text.`/etc/passwd`), and no options, which could give one. */
  private void relation(UnresolvedRelation relation) {
    tableName(relation.multipartIdentifier());
    if (!relation.options().isEmpty()) {
      throw Guard.refuse("a table with options");
    }
    if (relation.isStreaming()) {
      throw Guard.refuse("STREAM");
    }
  }

  private static void tableName(Seq<String> name) {
    // A single name is a table's or a WITH's, whatever is in it: a path stands behind the name of its format.
    if (name.size() > 1 && strings(name).stream().anyMatch(part -> part.matches(".*[/\\\\:*?].*"))) {
      throw Guard.refuse("reading files by their path");
    }
  }

  /** The name in IDENTIFIER('…'). It must be a plain string, because the check must know it before analysis does. */
  private Seq<String> identifier(Expression expression) throws ParseException {
    if (parser == null || !(expression instanceof Literal literal) || literal.value() == null) {
      throw Guard.refuse("IDENTIFIER() of anything but a string");
    }
    return parser.parseMultipartIdentifier(literal.value().toString());
  }

  private Seq<String> named(Expression expression) {
    try {
      return identifier(expression);
    } catch (ParseException error) {
      throw Guard.sneaky(error);
    }
  }

  private void function(List<String> name, Object arguments) {
    List<String> parts = name.stream().map(Guard::lower).collect(Collectors.toList());
    String last = parts.get(parts.size() - 1);
    List<String> qualifier = parts.subList(0, parts.size() - 1);
    boolean builtin = qualifier.isEmpty() || qualifier.equals(List.of("builtin")) || qualifier.equals(List.of("system", "builtin"));
    if (builtin && FUNCTIONS.contains(last)) {
      return;
    }
    boolean own = qualifier.isEmpty()
        ? FUNCTIONS_SCHEMAS.contains(currentSchema()) && !isBuiltin(last)
        : FUNCTIONS_SCHEMAS.contains(qualifier.get(qualifier.size() - 1))
            && (qualifier.size() == 1 || qualifier.size() == 2 && qualifier.get(0).equals(CATALOG));
    if (!own) {
      throw Guard.refuse("function " + Guard.oneLine(String.join(".", name)));
    }
    subqueryInFunction |= hasPlan(arguments);
  }

  private boolean isBuiltin(String name) {
    return state(session).catalog().isBuiltinFunction(name);
  }

  private static boolean hasPlan(Object node) {
    if (node instanceof LogicalPlan || node instanceof ExpressionWithUnresolvedIdentifier) {
      return true;
    }
    if (node instanceof scala.collection.Iterable<?> nodes) {
      return CollectionConverters.asJava(nodes.toSeq()).stream().anyMatch(Check::hasPlan);
    }
    for (int index = 0; node instanceof Product product && index < product.productArity(); index++) {
      if (hasPlan(product.productElement(index))) {
        return true;
      }
    }
    return false;
  }

  /**
   * Analysis puts the arguments of a function inside its body, where schemas are not checked. So all tables of a statement
   * with a subquery in such a place are checked by the names that the client wrote.
   */
  private void permitAsWritten(Object node) {
    if (node instanceof PlanWithUnresolvedIdentifier || node instanceof ExpressionWithUnresolvedIdentifier) {
      throw Guard.refuse("IDENTIFIER() beside a subquery in an argument of a function of a schema");
    }
    if (node instanceof UnresolvedRelation relation) {
      List<String> name = strings(relation.multipartIdentifier());
      permit(name.size() > 1 ? name.get(name.size() - 2) : currentSchema());
    }
    if (node instanceof scala.collection.Iterable<?> nodes) {
      for (Iterator<?> each = nodes.iterator(); each.hasNext(); ) {
        permitAsWritten(each.next());
      }
    } else if (node instanceof Product product) {
      for (int index = 0; index < product.productArity(); index++) {
        permitAsWritten(product.productElement(index));
      }
    }
  }

  /** SHOW SCHEMAS names those that its reader may read: tools look into each schema that they are told of. */
  LogicalPlan permitted(ShowNamespacesCommand show) {
    List<String> schemas = CollectionConverters.asJava(state(session).catalog().listDatabases()).stream()
        .filter(schema -> Users.mayRead(role(), Guard.lower(schema))).toList();
    Seq<String> wanted = seq(schemas);
    if (show.pattern().isDefined()) {
      wanted = StringUtils.filterPattern(wanted, show.pattern().get());
    }
    // A pattern may not be empty; no schema is named like the last one.
    String pattern = wanted.isEmpty() ? "-" : String.join("|", CollectionConverters.asJava(wanted));
    return show.copy(show.child(), Option.apply(pattern), show.output());
  }

  private void sqlFunction(FunctionIdentifier function) {
    if (!function.database().isDefined() || !FUNCTIONS_SCHEMAS.contains(Guard.lower(function.database().get()))) {
      throw Guard.refuse("function " + function.unquotedString());
    }
  }

  /** The hidden column `_metadata` tells where files are. */
  private static void column(String name) {
    if (name.equalsIgnoreCase("_metadata")) {
      throw Guard.refuse("column _metadata");
    }
  }

  /** SET key=value, and SET key, of an allowed key. What `SET` and `SET -v` show is the server's business. */
  private static void set(SetCommand set) {
    if (set.kv().isEmpty()) {
      throw Guard.refuse("SET without a key and value");
    }
    Tuple2<String, Option<String>> pair = set.kv().get();
    if (pair._2().isDefined()) {
      Guard.checkSetting(pair._1(), pair._2().get());
    } else if (!Guard.SETTINGS.containsKey(pair._1())) {
      throw Guard.refuse("SET without a value");
    }
  }

  /** SHOW … LIKE: to Spark it is a regular expression, which some names would keep busy for ever. */
  private static void names(LogicalPlan show) {
    for (int index = 0; index < show.productArity(); index++) {
      Object element = show.productElement(index) instanceof Option<?> option && option.isDefined() ? option.get()
          : show.productElement(index);
      if (element instanceof String pattern) {
        Door.checkPattern(pattern);
        if (REGEX.matcher(pattern).find()) {
          throw Guard.error("[LIMIT] pattern refused: SHOW … LIKE has * for any letters and | between names, and nothing else");
        }
      }
    }
  }

  // --- schemas and files ---------------------------------------------------------------------------------------------

  private void relation(CatalogTable table, boolean named) {
    if (named) {
      Option<String> schema = table.identifier().database();
      if (schema.isEmpty()) {
        throw Guard.refuse("a temporary view");
      }
      permit(schema.get());
    }
  }

  private void files(LogicalRelation table, boolean named) {
    if (table.catalogTable().isEmpty() || !(table.relation() instanceof HadoopFsRelation files)) {
      throw Guard.refuse("reading anything but tables");
    }
    relation(table.catalogTable().get(), named);
    for (Path path : CollectionConverters.asJava(files.location().rootPaths())) {
      inside(path.toUri());
    }
  }

  /** Tables are where the jobs put them: a table whose files are elsewhere was not made by them. */
  private void inside(URI location) {
    URI warehouse = new Path(session.sparkContext().conf().get("spark.sql.warehouse.dir")).toUri();
    URI place = location.normalize();
    String root = warehouse.getPath().replaceAll("/+$", "") + "/";
    if (!scheme(place).equals(scheme(warehouse)) || !String.valueOf(place.getAuthority()).equals(String.valueOf(warehouse.getAuthority()))
        || !place.getPath().startsWith(root)) {
      throw Guard.refuse("a table outside the warehouse");
    }
  }

  private static String scheme(URI location) {
    return location.getScheme() == null ? "file" : location.getScheme();
  }

  /** The schema that a command is about. */
  private void schema(LogicalPlan plan) {
    if (plan instanceof ResolvedNamespace namespace) {
      if (!namespace.namespace().isEmpty()) {
        permit(namespace.namespace().head());
      }
    } else if (plan instanceof ResolvedTable table) {
      permit(table.identifier().namespace()[0]);
    } else if (plan instanceof ResolvedPersistentView view) {
      permit(view.identifier().namespace()[0]);
    } else if (plan instanceof ShowTablesCommand show) {
      permit(show.databaseName().isDefined() ? show.databaseName().get() : currentSchema());
    } else if (plan instanceof ShowViewsCommand show) {
      permit(show.databaseName());
    } else if (plan instanceof ShowFunctionsCommand show) {
      permit(show.db());
    } else if (plan instanceof DescribeDatabaseCommand describe) {
      permit(describe.databaseName());
    }
  }

  private void permit(String schema) {
    if (!Users.mayRead(role(), Guard.lower(schema)) && !viewIsResolved()) {
      throw Guard.error("[PERMISSION] schema " + Guard.oneLine(schema) + " is not for role " + role());
    }
  }

  private String role() {
    if (role == null) {
      // The Thrift server sets it to the user who logged in, around every operation. No setting changes it.
      role = Users.role(CurrentUserContext$.MODULE$.CURRENT_USER().get());
    }
    return role;
  }

  /**
   * Spark also checks each view's body on its own, while it resolves the statement around it, and nothing in the plan
   * tells that from a statement. The statement itself is always checked after that, whole.
   */
  static boolean viewIsResolved() {
    return StackWalker.getInstance().walk(frames -> frames.anyMatch(
        frame -> frame.getClassName().startsWith(SPARK + "catalyst.analysis.ViewResolution")));
  }

  private String currentSchema() {
    return Guard.lower(state(session).catalog().getCurrentDatabase());
  }

  // --- small things --------------------------------------------------------------------------------------------------

  private static List<String> strings(Seq<String> strings) {
    return CollectionConverters.asJava(strings);
  }

  private static String simpleName(Object node) {
    String name = node.getClass().getSimpleName();
    return name.endsWith("$") ? name.substring(0, name.length() - 1) : name;
  }

  /** DropTable, DropTableCommand: DROP TABLE. */
  private static String words(String className) {
    return className.replaceFirst("(Command|Statement|Exec)$", "").replaceAll("(?<=[a-z0-9])(?=[A-Z])", " ").toUpperCase();
  }

  private static Set<String> list(String resource) {
    try (InputStream stream = Check.class.getResourceAsStream(resource)) {
      return new String(stream.readAllBytes(), StandardCharsets.UTF_8).lines()
          .filter(line -> !line.isBlank() && !line.startsWith("#")).collect(Collectors.toUnmodifiableSet());
    } catch (IOException error) {
      throw new ExceptionInInitializerError(error);
    }
  }
}
