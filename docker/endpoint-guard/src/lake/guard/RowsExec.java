package lake.guard;

import static lake.guard.Scala.seq;

import java.util.List;
import org.apache.spark.api.java.JavaSparkContext;
import org.apache.spark.rdd.RDD;
import org.apache.spark.sql.catalyst.InternalRow;
import org.apache.spark.sql.catalyst.expressions.Attribute;
import org.apache.spark.sql.catalyst.plans.physical.Partitioning;
import org.apache.spark.sql.catalyst.plans.physical.SinglePartition$;
import org.apache.spark.sql.execution.SparkPlan;
import scala.collection.Iterator;
import scala.collection.immutable.IndexedSeq;
import scala.collection.immutable.Seq;
import scala.jdk.javaapi.CollectionConverters;

/**
 * Rows that are in memory, as one partition. Spark's own LocalTableScanExec copies them for each query, and a client that
 * does not close its statements would keep all of the copies.
 */
public final class RowsExec extends SparkPlan {
  private final Seq<Attribute> output;
  private Seq<InternalRow> rows;

  public RowsExec(Seq<Attribute> output, Seq<InternalRow> rows) {
    this.output = output;
    this.rows = rows;
  }

  List<InternalRow> rows() {
    return CollectionConverters.asJava(rows);
  }

  /** The query has its result: a statement that stays open keeps its plan, and need not keep what it read. */
  void release() {
    rows = seq(List.<InternalRow>of());
  }

  @Override
  public RDD<InternalRow> doExecute() {
    return JavaSparkContext.fromSparkContext(session().sparkContext()).parallelize(rows(), 1).rdd();
  }

  @Override
  public Seq<Attribute> output() {
    return output;
  }

  @Override
  public Partitioning outputPartitioning() {
    return SinglePartition$.MODULE$;
  }

  /** Without the rows: it is for EXPLAIN. They are as the files have them, with ids and not with pseudonyms. */
  @Override
  public String simpleString(int most) {
    return "Rows " + output.mkString("[", ", ", "]");
  }

  /** The same for EXPLAIN FORMATTED. */
  @Override
  public Iterator<Object> stringArgs() {
    return seq(List.<Object>of(output)).iterator();
  }

  @Override
  public Seq<SparkPlan> children() {
    return seq(List.<SparkPlan>of());
  }

  @Override
  public SparkPlan withNewChildrenInternal(IndexedSeq<SparkPlan> children) {
    return this;
  }

  @Override
  public int productArity() {
    return 2;
  }

  @Override
  public Object productElement(int number) {
    return number == 0 ? output : rows;
  }

  @Override
  public boolean canEqual(Object other) {
    return other instanceof RowsExec;
  }

  /** By this Spark finds what it need do but once. */
  @Override
  public boolean equals(Object other) {
    return this == other || other instanceof RowsExec that && output.equals(that.output) && rows.equals(that.rows);
  }

  @Override
  public int hashCode() {
    return 31 * output.hashCode() + rows.size();
  }
}
