package lake.guard;

import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.regex.Pattern;
import org.apache.hive.service.cli.HiveSQLException;
import org.apache.spark.SparkConf;
import org.apache.spark.SparkContext;
import org.apache.spark.sql.SparkSession;
import org.apache.spark.sql.SparkSessionExtensions;
import org.apache.spark.sql.catalyst.CurrentUserContext$;
import org.apache.spark.sql.catalyst.FunctionIdentifier;
import org.apache.spark.sql.catalyst.TableIdentifier;
import org.apache.spark.sql.catalyst.expressions.Expression;
import org.apache.spark.sql.catalyst.parser.ParameterContext;
import org.apache.spark.sql.catalyst.parser.ParseException;
import org.apache.spark.sql.catalyst.parser.ParserInterface;
import org.apache.spark.sql.catalyst.parser.SqlStatementSplitResult;
import org.apache.spark.sql.catalyst.plans.logical.LogicalPlan;
import org.apache.spark.sql.catalyst.rules.Rule;
import org.apache.spark.sql.execution.ColumnarRule;
import org.apache.spark.sql.execution.SparkStrategy;
import org.apache.spark.sql.execution.command.SetCommand;
import org.apache.spark.sql.execution.command.ShowNamespacesCommand;
import org.apache.spark.sql.execution.command.ShowProceduresCommand;
import org.apache.spark.sql.types.DataType;
import org.apache.spark.sql.types.StructType;
import scala.Function1;
import scala.collection.immutable.Seq;
import scala.runtime.AbstractFunction1;
import scala.runtime.AbstractFunction2;
import scala.runtime.BoxedUnit;

/**
 * The read-only wall of the SQL endpoint, named in {@code spark.sql.extensions}: every statement is checked twice, as it
 * was parsed and as it was analysed, against lists of what is allowed. Nothing runs, and no file or catalog is touched,
 * before the first check; the second sees what names stand for.
 */
public final class Guard extends AbstractFunction1<SparkSessionExtensions, BoxedUnit> {
  /** Settings that a client may give, and their values. Everything else of a session must be as the server was started. */
  static final Map<String, Pattern> SETTINGS = Map.of(
      "hive.server2.thrift.resultset.default.fetch.size", Pattern.compile("\\d{1,9}"), // the JDBC driver sends it
      "hive.resultset.use.unique.column.names", Pattern.compile("true|false"),
      "hive.execution.engine", Pattern.compile("mr|tez|spark"), // Spark ignores it
      "spark.sql.ansi.enabled", Pattern.compile("true|false"),
      "spark.sql.ansi.doubleQuotedIdentifiers", Pattern.compile("true|false"), // tools that write SQL-92 quote names so
      PlanLimits.STREAM, Pattern.compile("true|false"),
      // Wall-clock times are kept as if they were UTC, and would be wrong in another zone.
      "spark.sql.session.timeZone", Pattern.compile("UTC"));

  /** What Spark's Thrift server and this plug-in themselves set in a session. */
  private static final Set<String> OWN_SETTINGS =
      Set.of("spark.sql.hive.version", "spark.sql.datetime.java8API.enabled", "spark.sql.binaryOutputStyle",
          PlanLimits.STREAM_IS_OURS);

  /** Airflow's hook says with SET which task a session is for. */
  private static final String AIRFLOW = "airflow.ctx.";

  @Override
  public BoxedUnit apply(SparkSessionExtensions extensions) {
    Turns.begin(SparkContext.getOrCreate());
    extensions.injectParser(new AbstractFunction2<>() {
      @Override
      public ParserInterface apply(SparkSession session, ParserInterface parser) {
        return new Parser(session, parser, CachedCatalog.of(session));
      }
    });
    extensions.injectPostHocResolutionRule(new AbstractFunction1<>() {
      @Override
      public Rule<LogicalPlan> apply(SparkSession session) {
        return new Protect(session);
      }
    });
    extensions.injectPostHocResolutionRule(new AbstractFunction1<>() {
      @Override
      public Rule<LogicalPlan> apply(SparkSession session) {
        return new SmallGroups(session);
      }
    });
    extensions.injectCheckRule(new AbstractFunction1<>() {
      @Override
      public Function1<LogicalPlan, BoxedUnit> apply(SparkSession session) {
        return new AbstractFunction1<>() {
          @Override
          public BoxedUnit apply(LogicalPlan plan) {
            check(session, plan);
            return BoxedUnit.UNIT;
          }
        };
      }
    });
    extensions.injectOptimizerRule(new AbstractFunction1<>() {
      @Override
      public Rule<LogicalPlan> apply(SparkSession session) {
        return CachedCatalog.of(session).files();
      }
    });
    extensions.injectOptimizerRule(new AbstractFunction1<>() {
      @Override
      public Rule<LogicalPlan> apply(SparkSession session) {
        return Dates.years();
      }
    });
    extensions.injectPreCBORule(new AbstractFunction1<>() {
      @Override
      public Rule<LogicalPlan> apply(SparkSession session) {
        return new NoLate();
      }
    });
    extensions.injectPreCBORule(new AbstractFunction1<>() {
      @Override
      public Rule<LogicalPlan> apply(SparkSession session) {
        return new FewTasks();
      }
    });
    extensions.injectPlannerStrategy(new AbstractFunction1<>() {
      @Override
      public SparkStrategy apply(SparkSession session) {
        return new PlanLimits(session);
      }
    });
    extensions.injectPlannerStrategy(new AbstractFunction1<>() {
      @Override
      public SparkStrategy apply(SparkSession session) {
        return new SmallTables(session);
      }
    });
    extensions.injectPlannerStrategy(new AbstractFunction1<>() {
      @Override
      public SparkStrategy apply(SparkSession session) {
        return new HeldExec.Strategy();
      }
    });
    extensions.injectColumnar(new AbstractFunction1<>() {
      @Override
      public ColumnarRule apply(SparkSession session) {
        return new Steps();
      }
    });
    return BoxedUnit.UNIT;
  }

  private static void check(SparkSession session, LogicalPlan plan) {
    try {
      new Check(session, null).analysed(plan);
      new Protect(session).check(plan);
    } catch (ParseException error) {
      throw sneaky(error);
    }
  }

  /** Refuses a statement: the client sees this one line. */
  static RuntimeException refuse(String what) {
    return error("[READ_ONLY] read-only endpoint: " + what + " is not allowed");
  }

  /** An error that reaches the client as it is. The Thrift server puts its own words around all others. */
  static RuntimeException error(String message) {
    return sneaky(new HiveSQLException(message, "42501"));
  }

  // Spark's interfaces, being Scala's, declare no checked exceptions, and HiveSQLException is one.
  @SuppressWarnings("unchecked")
  static <E extends Throwable> RuntimeException sneaky(Throwable error) throws E {
    throw (E) error;
  }

  /**
   * Refuses to go on in a session whose settings a client has changed. Those given at connect time
   * ({@code set:hiveconf:…}) are set before any statement can be checked: they could substitute variables, add a catalog,
   * or send the object store's requests elsewhere.
   */
  static void checkSettings(SparkSession session) {
    Map<String, String> settings = Check.state(session).conf().settings();
    SparkConf server = session.sparkContext().conf();
    synchronized (settings) {
      for (Map.Entry<String, String> setting : settings.entrySet()) {
        String key = setting.getKey();
        String value = setting.getValue();
        // The server's --hiveconf are properties of the JVM, which clients cannot set (see jobs/thrift_server.py).
        if (value.equals(server.get(key, null)) || value.equals(System.getProperty(key)) || OWN_SETTINGS.contains(key)) {
          continue;
        }
        checkSetting(key, value);
      }
    }
  }

  static void checkSetting(String key, String value) {
    Pattern allowed = SETTINGS.get(key);
    if (allowed == null) {
      throw refuse("setting " + oneLine(key));
    }
    if (!allowed.matcher(value).matches()) {
      throw refuse("this value of the setting " + key);
    }
  }

  static String oneLine(String text) {
    String line = text.replaceAll("\\s+", " ");
    return line.length() > 100 ? line.substring(0, 100) + "…" : line;
  }

  /** Spark's parser, with a check of what it makes. Views and SQL functions are parsed by it, too. */
  private record Parser(SparkSession session, ParserInterface parser, CachedCatalog catalog) implements ParserInterface {
    /** A statement begins: views are parsed by parseQuery. */
    private void begin(String text) {
      checkSettings(session);
      RunLimits.planning(session.sparkContext().getLocalProperty("spark.jobGroup.id"));
      catalog.look();
      session.sparkContext().setLocalProperty(PlanLimits.RESULT, PlanLimits.UNDECIDED);
      session.sparkContext().setLocalProperty(Turns.USER, CurrentUserContext$.MODULE$.getCurrentUserOrEmpty());
      HeldResults.planned(session.sparkContext(), text.length());
    }

    private LogicalPlan checked(LogicalPlan plan) throws ParseException {
      if (plan instanceof SetCommand set && set.kv().isDefined() && set.kv().get()._1().startsWith(AIRFLOW)) {
        return parser.parsePlan("SELECT 'of Airflow' AS key, 'ignored' AS value");
      }
      if (plan instanceof ShowProceduresCommand) {
        return parser.parsePlan("SELECT '' AS catalog, '' AS namespace, '' AS schema, '' AS procedure WHERE false"); // none
      }
      Check check = new Check(session, parser);
      check.parsed(plan);
      return plan instanceof ShowNamespacesCommand show ? check.permitted(show) : plan;
    }

    @Override
    public LogicalPlan parsePlan(String text) throws ParseException {
      begin(text);
      return checked(parser.parsePlan(text));
    }

    @Override
    public LogicalPlan parsePlanWithParameters(String text, ParameterContext parameters) throws ParseException {
      begin(text);
      return checked(parser.parsePlanWithParameters(text, parameters));
    }

    @Override
    public LogicalPlan parseQuery(String text) throws ParseException {
      checkSettings(session);
      return checked(parser.parseQuery(text));
    }

    @Override
    public Expression parseExpression(String text) throws ParseException {
      checkSettings(session);
      Expression expression = parser.parseExpression(text);
      new Check(session, parser).parsed(expression);
      return expression;
    }

    @Override
    public TableIdentifier parseTableIdentifier(String text) throws ParseException {
      return parser.parseTableIdentifier(text);
    }

    @Override
    public FunctionIdentifier parseFunctionIdentifier(String text) throws ParseException {
      return parser.parseFunctionIdentifier(text);
    }

    @Override
    public Seq<String> parseMultipartIdentifier(String text) throws ParseException {
      return parser.parseMultipartIdentifier(text);
    }

    @Override
    public StructType parseRoutineParam(String text) throws ParseException {
      return parser.parseRoutineParam(text);
    }

    @Override
    public SqlStatementSplitResult splitStatements(String text) {
      return parser.splitStatements(text);
    }

    @Override
    public StructType parseTableSchema(String text) throws ParseException {
      return parser.parseTableSchema(text);
    }

    @Override
    public DataType parseDataType(String text) throws ParseException {
      return parser.parseDataType(text);
    }
  }

  static String lower(String text) {
    return text.toLowerCase(Locale.ROOT);
  }
}
