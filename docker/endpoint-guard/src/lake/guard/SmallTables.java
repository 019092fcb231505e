package lake.guard;

import static lake.guard.Scala.seq;

import java.io.Closeable;
import java.io.IOException;
import java.util.ArrayList;
import java.util.IdentityHashMap;
import java.util.Iterator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import org.apache.spark.sql.SparkSession;
import org.apache.spark.sql.catalyst.InternalRow;
import org.apache.spark.sql.catalyst.expressions.Add;
import org.apache.spark.sql.catalyst.expressions.Alias;
import org.apache.spark.sql.catalyst.expressions.And;
import org.apache.spark.sql.catalyst.expressions.Attribute;
import org.apache.spark.sql.catalyst.expressions.AttributeReference;
import org.apache.spark.sql.catalyst.expressions.BindReferences;
import org.apache.spark.sql.catalyst.expressions.CaseWhen;
import org.apache.spark.sql.catalyst.expressions.Cast;
import org.apache.spark.sql.catalyst.expressions.Coalesce;
import org.apache.spark.sql.catalyst.expressions.Divide;
import org.apache.spark.sql.catalyst.expressions.EqualNullSafe;
import org.apache.spark.sql.catalyst.expressions.EqualTo;
import org.apache.spark.sql.catalyst.expressions.Expression;
import org.apache.spark.sql.catalyst.expressions.GreaterThan;
import org.apache.spark.sql.catalyst.expressions.GreaterThanOrEqual;
import org.apache.spark.sql.catalyst.expressions.If;
import org.apache.spark.sql.catalyst.expressions.In;
import org.apache.spark.sql.catalyst.expressions.InSet;
import org.apache.spark.sql.catalyst.expressions.InterpretedPredicate;
import org.apache.spark.sql.catalyst.expressions.InterpretedUnsafeProjection;
import org.apache.spark.sql.catalyst.expressions.IsNotNull;
import org.apache.spark.sql.catalyst.expressions.IsNull;
import org.apache.spark.sql.catalyst.expressions.KnownFloatingPointNormalized;
import org.apache.spark.sql.catalyst.expressions.LessThan;
import org.apache.spark.sql.catalyst.expressions.LessThanOrEqual;
import org.apache.spark.sql.catalyst.expressions.Literal;
import org.apache.spark.sql.catalyst.expressions.Multiply;
import org.apache.spark.sql.catalyst.expressions.NamedExpression;
import org.apache.spark.sql.catalyst.expressions.Not;
import org.apache.spark.sql.catalyst.expressions.Or;
import org.apache.spark.sql.catalyst.expressions.ScalarSubquery;
import org.apache.spark.sql.catalyst.expressions.SortOrder;
import org.apache.spark.sql.catalyst.expressions.Subtract;
import org.apache.spark.sql.catalyst.expressions.UnsafeProjection;
import org.apache.spark.sql.catalyst.expressions.UnsafeRow;
import org.apache.spark.sql.catalyst.expressions.aggregate.AggregateExpression;
import org.apache.spark.sql.catalyst.expressions.aggregate.Average;
import org.apache.spark.sql.catalyst.expressions.aggregate.Count;
import org.apache.spark.sql.catalyst.expressions.aggregate.Max;
import org.apache.spark.sql.catalyst.expressions.aggregate.Min;
import org.apache.spark.sql.catalyst.expressions.aggregate.Sum;
import org.apache.spark.sql.catalyst.expressions.package$;
import org.apache.spark.sql.catalyst.optimizer.BuildRight$;
import org.apache.spark.sql.catalyst.planning.ExtractEquiJoinKeys;
import org.apache.spark.sql.catalyst.planning.PhysicalOperation;
import org.apache.spark.sql.catalyst.plans.Inner$;
import org.apache.spark.sql.catalyst.plans.JoinType;
import org.apache.spark.sql.catalyst.plans.LeftOuter$;
import org.apache.spark.sql.catalyst.plans.logical.Aggregate;
import org.apache.spark.sql.catalyst.plans.logical.Filter;
import org.apache.spark.sql.catalyst.plans.logical.GlobalLimit;
import org.apache.spark.sql.catalyst.plans.logical.Join;
import org.apache.spark.sql.catalyst.plans.logical.JoinHint;
import org.apache.spark.sql.catalyst.plans.logical.LocalLimit;
import org.apache.spark.sql.catalyst.plans.logical.LogicalPlan;
import org.apache.spark.sql.catalyst.plans.logical.OneRowRelation;
import org.apache.spark.sql.catalyst.plans.logical.Project;
import org.apache.spark.sql.catalyst.plans.logical.ReturnAnswer;
import org.apache.spark.sql.catalyst.plans.logical.Sort;
import org.apache.spark.sql.catalyst.util.UnsafeRowUtils;
import org.apache.spark.sql.execution.FilterExec;
import org.apache.spark.sql.execution.ProjectExec;
import org.apache.spark.sql.execution.QueryExecution;
import org.apache.spark.sql.execution.SparkPlan;
import org.apache.spark.sql.execution.SparkStrategy;
import org.apache.spark.sql.execution.datasources.CatalogFileIndex;
import org.apache.spark.sql.execution.datasources.FileFormat;
import org.apache.spark.sql.execution.datasources.FileIndex;
import org.apache.spark.sql.execution.datasources.FileStatusWithMetadata;
import org.apache.spark.sql.execution.datasources.HadoopFsRelation;
import org.apache.spark.sql.execution.datasources.LogicalRelation;
import org.apache.spark.sql.execution.datasources.PartitionDirectory;
import org.apache.spark.sql.execution.datasources.PartitionedFile;
import org.apache.spark.sql.execution.datasources.parquet.ParquetFileFormat;
import org.apache.spark.sql.execution.joins.ShuffledHashJoinExec;
import org.apache.spark.sql.types.DataTypes;
import org.apache.spark.sql.types.StringType;
import org.apache.spark.sql.types.StructType;
import org.apache.spark.unsafe.types.UTF8String;
import scala.Function1;
import scala.Option;
import scala.Tuple3;
import scala.Tuple8;
import scala.collection.immutable.ArraySeq$;
import scala.collection.immutable.Map$;
import scala.collection.immutable.Seq;
import scala.jdk.javaapi.CollectionConverters;

/**
 * Small queries are answered without a Spark job, which would take most of their time.
 *
 * <p>Small partitions, such as those of most marts, are kept in memory as rows. What only selects from them is answered while
 * it is planned; what also aggregates, sorts or joins them becomes a {@link HereExec}. Nothing can stop either, so both are
 * for expressions that are listed here alone. All other queries are Spark's, but read the rows from memory, in one task.
 *
 * <p>A partition's files never change: jobs write each into a fresh folder (jobs/tables.py). So what was read stays right,
 * and the catalog says whether it is still what a table shows. Of the rows that are kept, those used longest ago make room
 * for others.
 */
final class SmallTables extends SparkStrategy {
  /** Bytes of a query's files from one table. As rows they take some ten times as much. */
  private static final long SMALL = 2 << 20;
  /** Bytes of rows that one step of a query has to itself. An open statement holds them, and there may be many. */
  private static final long COPIED = 512 << 10;
  /** Bytes of a partition's rows. */
  private static final long UNPACKED = 32 << 20;
  /** What a row's objects take beside its bytes. */
  private static final long ROW = 100;
  /** What it takes to name a row that is kept. */
  private static final long REFERENCE = 8;
  /** Partitions that a query reads by itself, one after the other. Of more the next queries read the rest. */
  private static final int FEW = 8;
  /** Bytes of all rows that are kept. */
  private static final long ROOM = Runtime.getRuntime().maxMemory() / 16;
  /** Such as cannot fail, and take no time and memory to speak of. */
  private static final Set<Class<?>> SIMPLE = Set.of(
      Alias.class, And.class, AttributeReference.class, EqualNullSafe.class, EqualTo.class, GreaterThan.class,
      GreaterThanOrEqual.class, In.class, InSet.class, IsNotNull.class, IsNull.class, LessThan.class, LessThanOrEqual.class,
      Literal.class, Not.class, Or.class);

  /** Such as take about as long for each row. Of a row that they fail for Spark is to tell. */
  private static final Set<Class<?>> SCALAR = Set.of(
      Add.class, CaseWhen.class, Cast.class, Coalesce.class, Divide.class, If.class, KnownFloatingPointNormalized.class,
      Multiply.class, Subtract.class);
  /** And of many rows. */
  private static final Set<Class<?>> CHEAP = Set.of(
      AggregateExpression.class, Average.class, Count.class, Max.class, Min.class, ScalarSubquery.class, SortOrder.class,
      Sum.class);
  private static final Set<Class<?>> CHEAP_PLANS = Set.of(
      Aggregate.class, Filter.class, GlobalLimit.class, Join.class, LocalLimit.class, LogicalRelation.class,
      OneRowRelation.class, Project.class, Sort.class);
  /** Rows that the joins of a query could make, at worst, times what is evaluated for each: about a second. */
  private static final double MOST = 10_000_000;
  /** Bytes of a text from which on a query is a job. */
  private static final int LONG = 100_000;

  private record Partition(StructType schema, List<String> files) {}

  /** The rows of a partition, and the position of their date if they are in its order, else -1. */
  private record Rows(List<UnsafeRow> all, int date, long bytes) {
    static Rows of(List<UnsafeRow> all, StructType schema) {
      int date = List.of(schema.fieldNames()).indexOf("date");
      if (date >= 0 && schema.fields()[date].dataType().equals(DataTypes.DateType)) {
        for (int next = 0; next < all.size() && date >= 0; next++) {
          boolean ordered = !all.get(next).isNullAt(date)
              && (next == 0 || all.get(next - 1).getInt(date) <= all.get(next).getInt(date));
          date = ordered ? date : -1;
        }
      } else {
        date = -1;
      }
      return new Rows(all, date, 1000 + all.stream().mapToLong(row -> row.getSizeInBytes() + ROW).sum());
    }

    /** Those that may be of the dates: where they are in order, no others. */
    List<UnsafeRow> on(Dates.Range dates) {
      return date < 0 || dates.first() > dates.last() ? all : all.subList(before(dates.first()), before(dates.last() + 1));
    }

    /** How many rows are of dates before a day. */
    private int before(long day) {
      int low = 0;
      int high = all.size();
      while (low < high) {
        int middle = (low + high) >>> 1;
        if (all.get(middle).getInt(date) < day) {
          low = middle + 1;
        } else {
          high = middle;
        }
      }
      return low;
    }
  }

  private static final Map<Partition, Rows> KEPT = new LinkedHashMap<>(16, 0.75f, true);
  private static long kept;

  private final SparkSession session;
  /** Of the tables of one plan: Spark makes its strategies anew for each. */
  private final Map<FileIndex, Optional<List<Rows>>> found = new IdentityHashMap<>();

  SmallTables(SparkSession session) {
    this.session = session;
  }

  @Override
  public Seq<SparkPlan> apply(LogicalPlan plan) {
    SparkPlan answer = answer(plan);
    return seq(answer == null ? List.of() : List.of(answer));
  }

  private SparkPlan answer(LogicalPlan plan) {
    if (plan instanceof ReturnAnswer answer) {
      SparkPlan rows = selected(answer.child(), HereExec.SMALL);
      if (rows instanceof RowsExec) {
        return new HereExec(rows);
      }
      SparkPlan prepared = here(answer.child()) ? prepared(answer.child()) : null;
      return prepared != null && inMemory(prepared) ? new HereExec(prepared) : null;
    }
    return plan instanceof Join join ? joined(join) : selected(plan, COPIED);
  }

  /** What selects from one table: rows of its own where they have so many bytes at most, else from the rows that are kept. */
  private SparkPlan selected(LogicalPlan plan, long most) {
    Option<Tuple3<Seq<NamedExpression>, Seq<Expression>, LogicalPlan>> operation = PhysicalOperation.unapply(plan);
    if (operation.isEmpty()) {
      return null;
    }
    LogicalPlan table = operation.get()._3();
    List<NamedExpression> columns = CollectionConverters.asJava(operation.get()._1());
    List<Expression> conditions = CollectionConverters.asJava(operation.get()._2());
    List<Expression> expressions = new ArrayList<>(conditions);
    columns.forEach(column -> expressions.add((Expression) column));
    boolean simple = expressions.stream().allMatch(SmallTables::simple);
    if (table instanceof OneRowRelation && simple) {
      return scan(columns, conditions, List.of(), List.of(InternalRow.empty()), most);
    }
    if (!(table instanceof LogicalRelation read) || !small(read)) {
      return null;
    }
    List<InternalRow> rows = rows((HadoopFsRelation) read.relation(), Dates.of(conditions));
    if (rows == null) {
      return null;
    }
    List<Attribute> input = List.copyOf(CollectionConverters.asJava(read.output()));
    if (simple) {
      return scan(columns, conditions, input, rows, most);
    }
    if (expressions.stream().allMatch(SmallTables::scalar)
        && expressions.stream().mapToInt(SmallTables::size).sum() * (double) rows.size() <= MOST) {
      try {
        return scan(columns, conditions, input, rows, most);
      } catch (RuntimeException error) {
        // A row cannot be worked out. Perhaps nobody asks for it.
      }
    }
    return ofKept(columns, conditions, input, rows);
  }

  /** Evaluated while the query runs. */
  private SparkPlan ofKept(
      List<NamedExpression> columns, List<Expression> conditions, List<Attribute> input, List<InternalRow> rows) {
    HeldResults.besides(session.sparkContext(), REFERENCE * rows.size());
    SparkPlan scan = new RowsExec(seq(input), shared(rows));
    return new ProjectExec(seq(columns), conditions.isEmpty() ? scan : new FilterExec(all(conditions), scan));
  }

  /** Ready to run, and without Spark's planning anew while it runs, which a single task has no need of. */
  private SparkPlan prepared(LogicalPlan plan) {
    SparkPlan planned = Check.state(session).planner().plan(plan).next();
    return QueryExecution.prepareExecutedPlan((org.apache.spark.sql.classic.SparkSession) session, planned);
  }

  private static boolean inMemory(SparkPlan plan) {
    return CollectionConverters.asJava(plan.collectLeaves()).stream().allMatch(RowsExec.class::isInstance);
  }

  /** Whether all that a query reads is small, and what it does with it is cheap. */
  private boolean here(LogicalPlan plan) {
    double work = 0;
    for (LogicalPlan node : nodes(plan)) {
      if (!CHEAP_PLANS.contains(node.getClass()) || node instanceof Join join && keys(join) == null) {
        return false;
      }
      for (Expression expression : CollectionConverters.asJava(node.expressions())) {
        if (!cheap(expression)) {
          return false;
        }
        work += size(expression);
      }
    }
    for (LogicalPlan leaf : CollectionConverters.asJava(plan.collectLeaves())) {
      if (leaf instanceof LogicalRelation read) {
        List<InternalRow> rows = small(read) ? rows((HadoopFsRelation) read.relation(), Dates.Range.ALL) : null;
        if (rows == null) {
          return false;
        }
        work *= Math.max(1, rows.size());
      }
    }
    return work <= MOST;
  }

  private static List<LogicalPlan> nodes(LogicalPlan plan) {
    List<LogicalPlan> nodes = new ArrayList<>(List.of(plan));
    for (int next = 0; next < nodes.size(); next++) {
      nodes.addAll(CollectionConverters.asJava(nodes.get(next).children()));
    }
    return nodes;
  }

  private static int size(Expression expression) {
    return 1 + CollectionConverters.asJava(expression.children()).stream().mapToInt(SmallTables::size).sum();
  }

  /** Without Spark's broadcast, which is a job of its own. */
  private SparkPlan joined(Join join) {
    var keys = keys(join);
    if (keys == null || !here(join)) {
      return null;
    }
    return new ShuffledHashJoinExec(keys._2(), keys._3(), join.joinType(), BuildRight$.MODULE$, keys._4(),
        planLater(join.left()), planLater(join.right()), false);
  }

  /** What {@link ShuffledHashJoinExec} joins by, if it can; texts that differ and are equal (collations) it cannot. */
  private static Tuple8<JoinType, Seq<Expression>, Seq<Expression>, Option<Expression>, Option<Expression>, LogicalPlan,
      LogicalPlan, JoinHint> keys(Join join) {
    if (join.joinType() != Inner$.MODULE$ && join.joinType() != LeftOuter$.MODULE$) {
      return null;
    }
    var keys = ExtractEquiJoinKeys.unapply(join);
    return keys.isDefined() && CollectionConverters.asJava(keys.get()._2()).stream()
        .allMatch(key -> UnsafeRowUtils.isBinaryStable(key.dataType())) ? keys.get() : null;
  }

  private static boolean cheap(Expression expression) {
    return !expression.exists(node -> isLong(node) || readsText(node)
        || !SIMPLE.contains(node.getClass()) && !SCALAR.contains(node.getClass()) && !CHEAP.contains(node.getClass())
            && !Pseudonyms.is(node));
  }

  private static boolean scalar(Expression expression) {
    return !expression.exists(node -> isLong(node) || readsText(node)
        || !SIMPLE.contains(node.getClass()) && !SCALAR.contains(node.getClass()) && !Pseudonyms.is(node));
  }

  /** The longer the text is, the longer that takes, and no look at an interrupt is in between. */
  private static boolean readsText(Expression node) {
    return node instanceof Cast cast && cast.child().dataType() instanceof StringType && !(cast.dataType() instanceof StringType);
  }

  /** A text that was written, or worked out while the query was planned, and that each row would have. */
  private static boolean isLong(Expression node) {
    return node instanceof Literal literal && literal.value() instanceof UTF8String text && text.numBytes() > LONG;
  }

  private static boolean small(LogicalRelation read) {
    return read.relation() instanceof HadoopFsRelation files && files.fileFormat() instanceof ParquetFileFormat
        && read.output().size() == files.schema().size();
  }

  static boolean simple(Expression expression) {
    return !expression.exists(node -> !SIMPLE.contains(node.getClass()));
  }

  /** Evaluated without generated code, which would be compiled anew for each date. Null for what would be large. */
  private SparkPlan scan(
      List<NamedExpression> columns, List<Expression> conditions, List<Attribute> input, List<InternalRow> rows, long most) {
    UnsafeProjection project = InterpretedUnsafeProjection.createProjection(
        seq(columns.stream().map(column -> bound(column, input)).toList()));
    InterpretedPredicate wanted = conditions.isEmpty() ? null : new InterpretedPredicate(bound(all(conditions), input));
    List<InternalRow> result = new ArrayList<>();
    long bytes = 0;
    for (InternalRow row : rows) {
      if (wanted == null || wanted.eval(row)) {
        UnsafeRow selected = project.apply(row);
        bytes += selected.getSizeInBytes();
        if (bytes > HereExec.SMALL) {
          return null;
        }
        result.add(selected.copy());
      }
    }
    if (bytes > most) {
      return ofKept(columns, conditions, input, rows);
    }
    HeldResults.besides(session.sparkContext(), bytes + ROW * result.size());
    return new RowsExec(seq(columns.stream().map(NamedExpression::toAttribute).toList()), seq(result));
  }

  private static Expression bound(NamedExpression column, List<Attribute> input) {
    return bound((Expression) column, input);
  }

  private static Expression bound(Expression expression, List<Attribute> input) {
    return BindReferences.bindReference(expression, package$.MODULE$.AttributeSeq(seq(input)), false);
  }

  private static Expression all(List<Expression> conditions) {
    return conditions.stream().reduce(And::new).orElseThrow();
  }

  /** The rows of the files that may be of the dates, or null where they are not small, or not all in memory yet. */
  private List<InternalRow> rows(HadoopFsRelation table, Dates.Range dates) {
    Optional<List<Rows>> all = found.computeIfAbsent(table.location(), location -> Optional.ofNullable(find(table)));
    if (all.isEmpty()) {
      return null;
    }
    List<InternalRow> rows = new ArrayList<>();
    all.get().forEach(partition -> rows.addAll(partition.on(dates)));
    return rows;
  }

  private List<Rows> find(HadoopFsRelation table) {
    // A table whose partitions no filter has chosen does not know its size yet.
    FileIndex index = table.location() instanceof CatalogFileIndex all ? all.filterPartitions(seq(List.of())) : table.location();
    if (index.sizeInBytes() > SMALL) {
      return null;
    }
    List<PartitionDirectory> folders = CollectionConverters.asJava(index.listFiles(seq(List.of()), seq(List.of())));
    List<Rows> all = new ArrayList<>();
    int read = 0;
    for (PartitionDirectory folder : folders) {
      Partition partition = key(table, folder);
      Rows rows = known(partition);
      if (rows == null && read++ < FEW) {
        List<UnsafeRow> content = read(table, folder);
        if (content != null) {
          rows = Rows.of(content, table.schema());
          keep(partition, rows);
        }
      }
      if (rows == null) {
        return null;
      }
      all.add(rows);
    }
    return all;
  }

  /** Null where little was packed, but much in it. */
  private List<UnsafeRow> read(HadoopFsRelation table, PartitionDirectory folder) {
    scala.collection.immutable.Map<String, String> options =
        table.options().updated(FileFormat.OPTION_RETURNING_BATCH(), "false");
    Function1<PartitionedFile, scala.collection.Iterator<InternalRow>> reader = table.fileFormat()
        .buildReaderWithPartitionValues(session, table.dataSchema(), table.partitionSchema(), table.dataSchema(),
            seq(List.of()), options, table.getHadoopConf(session, options));
    UnsafeProjection copy = UnsafeProjection.create(table.schema());
    List<UnsafeRow> rows = new ArrayList<>();
    long bytes = 0;
    for (FileStatusWithMetadata file : CollectionConverters.asJava(folder.files())) {
      PartitionedFile whole = new PartitionedFile(folder.values(), org.apache.spark.paths.SparkPath.fromPath(file.getPath()),
          0, file.getLen(), new String[0], file.getModificationTime(), file.getLen(), Map$.MODULE$.empty());
      scala.collection.Iterator<InternalRow> content = reader.apply(whole);
      try (Closeable end = content instanceof Closeable closeable ? closeable : () -> {}) {
        while (content.hasNext()) {
          UnsafeRow row = copy.apply(content.next());
          bytes += row.getSizeInBytes();
          if (bytes > UNPACKED) {
            return null;
          }
          rows.add(row.copy());
        }
      } catch (IOException error) {
        throw new java.io.UncheckedIOException(error);
      }
    }
    return rows;
  }

  private static Partition key(HadoopFsRelation table, PartitionDirectory folder) {
    return new Partition(table.schema(), CollectionConverters.asJava(folder.files()).stream()
        .map(file -> file.getPath() + " " + file.getLen() + " " + file.getModificationTime()).toList());
  }

  private static Rows known(Partition partition) {
    synchronized (KEPT) {
      return KEPT.get(partition);
    }
  }

  private static void keep(Partition partition, Rows rows) {
    synchronized (KEPT) {
      kept += rows.bytes();
      Rows before = KEPT.put(partition, rows);
      kept -= before == null ? 0 : before.bytes();
      for (Iterator<Rows> oldest = KEPT.values().iterator(); kept > ROOM; oldest.remove()) {
        kept -= oldest.next().bytes();
      }
    }
  }

  /** A sequence that has no object for each row. */
  @SuppressWarnings("unchecked") // Scala has no such array
  private static Seq<InternalRow> shared(List<InternalRow> rows) {
    return (Seq<InternalRow>) (Seq<?>) ArraySeq$.MODULE$.unsafeWrapArray(rows.toArray());
  }
}
