package lake.guard;

import static lake.guard.Scala.seq;

import java.lang.reflect.Field;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.function.Predicate;
import java.util.function.Supplier;
import org.apache.spark.SparkContext;
import org.apache.spark.sql.SparkSession;
import org.apache.spark.sql.catalyst.catalog.CatalogDatabase;
import org.apache.spark.sql.catalyst.catalog.CatalogFunction;
import org.apache.spark.sql.catalyst.catalog.CatalogTable;
import org.apache.spark.sql.catalyst.catalog.CatalogTablePartition;
import org.apache.spark.sql.catalyst.catalog.ExternalCatalogUtils;
import org.apache.spark.sql.catalyst.catalog.ExternalCatalogWithListener;
import org.apache.spark.sql.catalyst.expressions.AttributeReference;
import org.apache.spark.sql.catalyst.expressions.EqualTo;
import org.apache.spark.sql.catalyst.expressions.ExprId;
import org.apache.spark.sql.catalyst.expressions.Expression;
import org.apache.spark.sql.catalyst.expressions.IsNotNull;
import org.apache.spark.sql.catalyst.expressions.Literal;
import org.apache.spark.sql.catalyst.expressions.NamedExpression;
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
import org.apache.spark.sql.types.Metadata;
import org.apache.spark.unsafe.types.UTF8String;
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
 *
 * <p>A statement keeps what it began with, whatever others have to forget, and asks nothing twice. A table in layers, which it
 * reads several times (sql/gold/V023), it asks once for the partitions of all layers: so it has all of them as they were
 * at one moment.
 */
final class CachedCatalog extends HiveExternalCatalog {
  private static final String MARKED = "ops";
  private static final String MARK = "lake.published";
  private static final long LONGEST = 60_000_000_000L;
  private static final int MOST = 10_000;
  /** Partitions of an answer that is remembered. */
  private static final int FEW = 800;
  /** Partition column of the tables in layers. */
  static final String LAYER = "layer";
  private static final ExprId ANY = NamedExpression.newExprId();

  /** What is known under one mark. Whoever looks something up puts it where it was missing, never into a newer one. */
  private record Known(String mark, long since, Map<Object, Object> answers) {
    private Known(String mark) {
      this(mark, System.nanoTime(), new ConcurrentHashMap<>());
    }
  }

  /** Of one statement: what was known when it began, and the answers that are not worth to be remembered for others. */
  private record Statement(Known known, Map<Object, Object> own) {
    private Statement(Known known) {
      this(known, new ConcurrentHashMap<>());
    }
  }

  /** What is asked of a table's partitions. Conditions are in no order, and name columns alike, whoever reads the table. */
  private record Question(String what, Set<Object> conditions) {}

  /** Those that run, by their id, which goes with them to other threads. */
  private static final Map<String, Statement> STATEMENTS = new ConcurrentHashMap<>();

  private final HiveExternalCatalog catalog;
  private final SparkContext spark;
  private volatile Known known = new Known("");

  private CachedCatalog(HiveExternalCatalog catalog, SharedState state) {
    super(state.conf(), state.hadoopConf());
    this.catalog = catalog;
    this.spark = state.sparkContext();
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
    String id = id();
    if (id != null && STATEMENTS.containsKey(id)) {
      return; // it has begun: this is a part of it
    }
    Known before = known;
    String mark = null;
    try {
      mark = super.getDatabase(MARKED).properties().getOrElse(MARK, () -> null);
    } catch (Exception error) {
      // No metastore, or no schema yet: whatever the statement needs of it will say so.
    }
    if (mark == null || !mark.equals(before.mark()) || System.nanoTime() - before.since() > LONGEST
        || before.answers().size() > MOST) {
      before = new Known(mark == null ? "" : mark);
      known = before;
      // Of some the end is told before the beginning.
      STATEMENTS.values().removeIf(statement -> System.nanoTime() - statement.known().since() > 10 * LONGEST);
    }
    if (id != null) {
      STATEMENTS.put(id, new Statement(before));
    }
  }

  /** A statement has ended, or its client does not wait for it any more. */
  static void forget(String id) {
    STATEMENTS.remove(id);
  }

  /** Of the statement that this thread works for, null if for none. */
  private String id() {
    return spark.getLocalProperty("spark.jobGroup.id");
  }

  /** An answer that is remembered. An error is none, nor is "there is no such thing": that may be made any moment. */
  private <T> T remember(Object question, Supplier<T> ask) {
    return remember(question, ask, answer -> true);
  }

  /** What is not worth it is remembered for the statement alone. Of two answers to one question, the first one holds. */
  @SuppressWarnings("unchecked")
  private <T> T remember(Object question, Supplier<T> ask, Predicate<T> worth) {
    Statement statement = statement();
    T answer = (T) statement.own().getOrDefault(question, statement.known().answers().get(question));
    if (answer == null) {
      answer = ask.get();
      if (!Boolean.FALSE.equals(answer)) {
        Map<Object, Object> answers = worth.test(answer) ? statement.known().answers() : statement.own();
        T first = (T) answers.putIfAbsent(question, answer);
        return first == null ? answer : first;
      }
    }
    return answer;
  }

  private Statement statement() {
    String id = id();
    Statement begun = id == null ? null : STATEMENTS.get(id);
    return begun == null ? new Statement(known) : begun;
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

  /**
   * The conditions on the layer are not the metastore's: their answer is a part of the one that all layers share. Nor are
   * those that may take long: Spark's client works them out under a lock, and all others wait for it.
   */
  @Override
  public Seq<CatalogTablePartition> listPartitionsByFilter(
      String schema, String table, Seq<Expression> filters, String timeZone) {
    List<Expression> all = CollectionConverters.asJava(filters);
    List<Expression> asked = all.stream().filter(condition -> !isHere(condition) && SmallTables.simple(condition)).toList();
    List<Expression> others = all.stream().filter(condition -> !isHere(condition) && !SmallTables.simple(condition)).toList();
    Seq<CatalogTablePartition> partitions = remember(partitions(schema, table, asked),
        () -> super.listPartitionsByFilter(schema, table, seq(asked), timeZone), answer -> told(asked, answer.size()));
    if (asked.size() == all.size()) {
      return partitions;
    }
    CatalogTable form = others.isEmpty() ? null : getTable(schema, table);
    return seq(CollectionConverters.asJava(partitions).stream()
        .filter(partition -> all.stream().allMatch(condition -> !isHere(condition) || holds(condition, partition)))
        .filter(partition -> others.isEmpty() || holds(form, partition, others, timeZone)).toList());
  }

  /** One by one, so that the statement can be stopped in between. */
  private static boolean holds(CatalogTable form, CatalogTablePartition partition, List<Expression> conditions, String timeZone) {
    if (Thread.currentThread().isInterrupted()) {
      throw Guard.sneaky(new InterruptedException());
    }
    return ExternalCatalogUtils.prunePartitionsByFilter(form, seq(List.of(partition)), seq(conditions), timeZone).nonEmpty();
  }

  /** Whether it is layer = '…', or says of a partition column that it is not null: Spark adds that to some reads of a table. */
  private static boolean isHere(Expression condition) {
    return layer(condition) != null || condition instanceof IsNotNull some && some.child() instanceof AttributeReference;
  }

  /** The layer that a condition asks for, null if it asks for none. */
  static String layer(Expression condition) {
    if (!(condition instanceof EqualTo equal)) {
      return null;
    }
    boolean turned = equal.left() instanceof Literal;
    return (turned ? equal.right() : equal.left()) instanceof AttributeReference column && column.name().equals(LAYER)
        && (turned ? equal.left() : equal.right()) instanceof Literal literal && literal.value() instanceof UTF8String text
        ? text.toString() : null;
  }

  private static boolean holds(Expression condition, CatalogTablePartition partition) {
    String layer = layer(condition);
    String column = layer != null ? LAYER : ((AttributeReference) ((IsNotNull) condition).child()).name();
    String value = partition.spec().getOrElse(column, () -> null);
    return layer != null ? layer.equals(value) : !ExternalCatalogUtils.DEFAULT_PARTITION_NAME().equals(value);
  }

  private static Question partitions(String schema, String table, List<Expression> conditions) {
    return new Question("partitions " + schema + "." + table, same(conditions));
  }

  /** Whether an answer is worth its room, and others may ask for it. */
  private static boolean told(List<Expression> conditions, int partitions) {
    return conditions.isEmpty() || partitions <= FEW && conditions.stream().allMatch(SmallTables::simple);
  }

  /** Without what differs from one read of a table to the next: the number and the alias of each column. */
  private static Set<Object> same(List<Expression> conditions) {
    Set<Object> same = new HashSet<>();
    for (Expression condition : conditions) {
      Expression plain = (Expression) condition.transformUp(PLAIN);
      // SQL does not say all of others: that of LIKE ANY leaves out the patterns.
      same.add(SmallTables.simple(plain) ? plain.sql() : plain);
    }
    return same;
  }

  private static final AbstractPartialFunction<Expression, Expression> PLAIN = new AbstractPartialFunction<>() {
    @Override
    public boolean isDefinedAt(Expression expression) {
      return expression instanceof AttributeReference;
    }

    @Override
    public Expression apply(Expression expression) {
      AttributeReference column = (AttributeReference) expression;
      return new AttributeReference(column.name(), column.dataType(), true, Metadata.empty(), ANY, seq(List.of()));
    }
  };

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
      List<Expression> conditions = CollectionConverters.asJava(filters);
      List<Expression> asked = conditions.stream().filter(condition -> !isHere(condition)).toList();
      Question partitions = partitions(table().database(), table().identifier().table(), asked);
      // Those of few late partitions not longer than all partitions: the base's could be newer.
      return remember(new Question("files of " + table().identifier(), same(conditions)), () -> super.filterPartitions(filters),
          files -> told(conditions, files.rootPaths().size())
              && (!table().partitionColumnNames().contains(LAYER) || statement().known().answers().containsKey(partitions)));
    }
  }
}
