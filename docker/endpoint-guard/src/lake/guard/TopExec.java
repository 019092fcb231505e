package lake.guard;

import static lake.guard.Scala.seq;

import java.util.List;
import org.apache.spark.rdd.RDD;
import org.apache.spark.sql.catalyst.InternalRow;
import org.apache.spark.sql.catalyst.expressions.Attribute;
import org.apache.spark.sql.execution.SparkPlan;
import scala.collection.Iterator;
import scala.collection.immutable.Seq;

/** The top of a query, or of a part of it. Its rows are those of the plan below it. */
abstract class TopExec extends SparkPlan {
  final SparkPlan child;

  TopExec(SparkPlan child) {
    this.child = child;
  }

  /** The rows of a result that is handed over while it is read. */
  @Override
  public Iterator<InternalRow> executeToIterator() {
    return HeldResults.bounded(super.executeToIterator(), output());
  }

  @Override
  public Seq<SparkPlan> children() {
    return seq(List.of(child));
  }

  @Override
  public RDD<InternalRow> doExecute() {
    return child.execute();
  }

  @Override
  public Seq<Attribute> output() {
    return child.output();
  }

  @Override
  public int productArity() {
    return 1;
  }

  @Override
  public Object productElement(int number) {
    return child;
  }

  @Override
  public boolean canEqual(Object other) {
    return other != null && other.getClass() == getClass();
  }
}
