package lake.guard;

import java.lang.reflect.Field;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.function.Predicate;
import java.util.function.Supplier;
import java.util.stream.Collectors;
import org.apache.spark.sql.SparkSession;
import org.apache.spark.sql.catalyst.catalog.CatalogDatabase;
import org.apache.spark.sql.catalyst.catalog.CatalogFunction;
import org.apache.spark.sql.catalyst.catalog.CatalogTable;
import org.apache.spark.sql.catalyst.catalog.CatalogTablePartition;
import org.apache.spark.sql.catalyst.catalog.ExternalCatalogWithListener;
import org.apache.spark.sql.catalyst.expressions.Expression;
import org.apache.spark.sql.catalyst.plans.logical.LogicalPlan;
import org.apache.spark.sql.catalyst.rules.Rule;
import org.apache.spark.sql.execution.datasources.CatalogFileIndex;
import org.apache.spark.sql.execution.datasources.FileIndex;
import org.apache.spark.sql.execution.datasources.HadoopFsRelation;
import org.apache.spark.sql.execution.datasources.InMemoryFileIndex;
import org.apache.spark.sql.execution.datasources.LogicalRelation;
import org.apache.spark.sql.hive.HiveExternalCatalog;
import org.apache.spark.sql.hive.client.HiveClient;
import org.apache.spark.sql.internal.SharedState;
import scala.Option;
import scala.collection.immutable.Seq;
import scala.jdk.javaapi.CollectionConverters;
import scala.runtime.AbstractPartialFunction;

/**
 * The metastore as queries see it, remembered for as long as nothing is published. Without it each query asks a dozen times
 * for what has not changed, which takes most of a small query's time.
 *
 * <p>Jobs write a new mark into the properties of the schema {@code ops} after each change that they make (jobs/tables.py).
 * Every statement begins with a look at it, one request, and what was remembered under another mark is dropped. So new data
 * shows in the first statement after a publication. Should a job end between change and mark, the next minute drops it all.
 */
final class CachedCatalog extends HiveExternalCatalog {
  private static final String MARKED = "ops";
  private static final String MARK = "lake.published";
  private static final long LONGEST = 60_000_000_000L;
  private static final int MOST = 10_000;
  /** Partitions of an answer that is remembered. */
  private static final int FEW = 400;

  /** What is known under one mark. Whoever looks something up puts it where it was missing, never into a newer one. */
  private record Known(String mark, long since, Map<String, Object> answers) {
    private Known(String mark) {
      this(mark, System.nanoTime(), new ConcurrentHashMap<>());
    }
  }

  private final HiveExternalCatalog catalog;
  private volatile Known known = new Known("");

  private CachedCatalog(HiveExternalCatalog catalog, SharedState state) {
    super(state.conf(), state.hadoopConf());
    this.catalog = catalog;
  }

  /** The one that stands before Spark's own catalog; put there for the first session. Spark has no setting for it. */
  static synchronized CachedCatalog of(SparkSession session) {
    SharedState state = ((org.apache.spark.sql.classic.SparkSession) session).sharedState();
    ExternalCatalogWithListener outer = state.externalCatalog();
    if (outer.unwrapped() instanceof CachedCatalog installed) {
      return installed;
    }
    CachedCatalog installed = new CachedCatalog((HiveExternalCatalog) outer.unwrapped(), state);
    try {
      Field delegate = ExternalCatalogWithListener.class.getDeclaredField("delegate");
      delegate.setAccessible(true);
      delegate.set(outer, installed);
      return installed;
    } catch (ReflectiveOperationException error) {
      throw new IllegalStateException("the endpoint's catalog does not fit this version of Spark", error);
    }
  }

  /** At the begin of a statement: forget what may have changed since the last one. */
  void look() {
    Known before = known;
    String mark = null;
    try {
      mark = super.getDatabase(MARKED).properties().getOrElse(MARK, () -> null);
    } catch (Exception error) {
      // No metastore, or no schema yet: whatever the statement needs of it will say so.
    }
    if (mark == null || !mark.equals(before.mark()) || System.nanoTime() - before.since() > LONGEST
        || before.answers().size() > MOST) {
      known = new Known(mark == null ? "" : mark);
    }
  }

  /** An answer that is remembered. An error is none, nor is "there is no such thing": that may be made any moment. */
  private <T> T remember(String question, Supplier<T> ask) {
    return remember(question, ask, answer -> true);
  }

  @SuppressWarnings("unchecked")
  private <T> T remember(String question, Supplier<T> ask, Predicate<T> worth) {
    Map<String, Object> answers = known.answers();
    T answer = (T) answers.get(question);
    if (answer == null) {
      answer = ask.get();
      if (!Boolean.FALSE.equals(answer) && worth.test(answer)) {
        answers.put(question, answer);
      }
    }
    return answer;
  }

  @Override
  public HiveClient client() {
    return catalog.client();
  }

  @Override
  public CatalogDatabase getDatabase(String schema) {
    return remember("schema " + schema, () -> super.getDatabase(schema));
  }

  @Override
  public boolean databaseExists(String schema) {
    return remember("schema? " + schema, () -> super.databaseExists(schema));
  }

  @Override
  public CatalogTable getTable(String schema, String table) {
    return remember("table " + schema + "." + table, () -> super.getTable(schema, table));
  }

  @Override
  public boolean tableExists(String schema, String table) {
    return remember("table? " + schema + "." + table, () -> super.tableExists(schema, table));
  }

  @Override
  public CatalogFunction getFunction(String schema, String function) {
    return remember("function " + schema + "." + function, () -> super.getFunction(schema, function));
  }

  @Override
  public boolean functionExists(String schema, String function) {
    return remember("function? " + schema + "." + function, () -> super.functionExists(schema, function));
  }

  @Override
  public Seq<CatalogTablePartition> listPartitions(
      String schema, String table, Option<scala.collection.immutable.Map<String, String>> some) {
    return remember("partitions " + schema + "." + table + " " + some, () -> super.listPartitions(schema, table, some));
  }

  @Override
  public Seq<CatalogTablePartition> listPartitionsByFilter(
      String schema, String table, Seq<Expression> filters, String timeZone) {
    return remember("partitions " + schema + "." + table + " where " + sql(filters),
        () -> super.listPartitionsByFilter(schema, table, filters, timeZone), partitions -> told(filters, partitions.size()));
  }

  /** Whether an answer is worth its room, and the filters' SQL says all of them: that of LIKE ANY leaves out the patterns. */
  private static boolean told(Seq<Expression> filters, int partitions) {
    return filters.isEmpty() || partitions <= FEW && CollectionConverters.asJava(filters).stream().allMatch(SmallTables::simple);
  }

  /** Other texts have numbers that differ from query to query. */
  private static String sql(Seq<Expression> filters) {
    return CollectionConverters.asJava(filters).stream().map(Expression::sql).collect(Collectors.joining(" AND "));
  }

  /** Makes an optimised plan's tables ask here for their files. */
  Rule<LogicalPlan> files() {
    return new Rule<>() {
      @Override
      public LogicalPlan apply(LogicalPlan plan) {
        return plan.exists(node -> table(node) != null) ? (LogicalPlan) plan.transformUp(replacement) : plan;
      }
    };
  }

  private final AbstractPartialFunction<LogicalPlan, LogicalPlan> replacement = new AbstractPartialFunction<>() {
    @Override
    public boolean isDefinedAt(LogicalPlan node) {
      return table(node) != null;
    }

    @Override
    public LogicalPlan apply(LogicalPlan node) {
      LogicalRelation read = (LogicalRelation) node;
      HadoopFsRelation table = (HadoopFsRelation) read.relation();
      FileIndex files = remember("files of " + table(node).table().identifier(), () -> new Files(table(node), table));
      // With another option, or Spark would keep the table as it was: to it, the two indexes are equal.
      return read.copy(new HadoopFsRelation(files, table.partitionSchema(), table.dataSchema(), table.bucketSpec(),
          table.fileFormat(), table.options().updated("lake.files", "remembered"), table.sparkSession()), read.output(),
          read.catalogTable(), read.isStreaming(), read.stream());
    }
  };

  /** The index of a table's files, if the node reads one with Spark's own. */
  private static CatalogFileIndex table(LogicalPlan node) {
    return node instanceof LogicalRelation read && read.relation() instanceof HadoopFsRelation table
        && table.location().getClass() == CatalogFileIndex.class ? (CatalogFileIndex) table.location() : null;
  }

  /** A table whose files are remembered, too: Spark would list them anew in each session. */
  private final class Files extends CatalogFileIndex {
    private Files(CatalogFileIndex index, HadoopFsRelation table) {
      super(table.sparkSession(), index.table(), index.sizeInBytes());
    }

    @Override
    public InMemoryFileIndex filterPartitions(Seq<Expression> filters) {
      return remember("files of " + table().identifier() + " where " + sql(filters), () -> super.filterPartitions(filters),
          files -> told(filters, files.rootPaths().size()));
    }
  }
}
