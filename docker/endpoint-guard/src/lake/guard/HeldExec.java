package lake.guard;

import static lake.guard.Scala.seq;

import java.util.ArrayList;
import java.util.List;
import org.apache.spark.sql.SparkSession;
import org.apache.spark.sql.catalyst.InternalRow;
import org.apache.spark.sql.catalyst.plans.logical.LogicalPlan;
import org.apache.spark.sql.catalyst.plans.logical.ReturnAnswer;
import org.apache.spark.sql.catalyst.trees.TreeNodeTag;
import org.apache.spark.sql.execution.SparkPlan;
import org.apache.spark.sql.execution.SparkStrategy;
import scala.collection.Iterator;
import scala.collection.immutable.IndexedSeq;
import scala.collection.immutable.Seq;

/** The top of a query: unpacks a result row by row, and stops where results take too much memory ({@link HeldResults}). */
public final class HeldExec extends TopExec {
  public HeldExec(SparkPlan child) {
    super(child);
  }

  /** Puts it there, and leaves the rest to Spark. */
  static final class Strategy extends SparkStrategy {
    private static final TreeNodeTag<Boolean> HELD = new TreeNodeTag<>("lake.held");

    @Override
    public Seq<SparkPlan> apply(LogicalPlan plan) {
      List<SparkPlan> planned = new ArrayList<>();
      if (plan instanceof ReturnAnswer answer && answer.getTagValue(HELD).isEmpty()) {
        ReturnAnswer below = new ReturnAnswer(answer.child());
        below.setTagValue(HELD, true);
        planned.add(new HeldExec(planLater(below)));
      }
      return seq(planned);
    }
  }

  @Override
  public InternalRow[] executeCollect() {
    HeldResults.Counter counter = HeldResults.begin(session().sparkContext(), output());
    List<InternalRow> rows = new ArrayList<>();
    if (hasOwnWay()) {
      for (InternalRow row : child.executeCollect()) {
        counter.add(row);
        rows.add(row);
      }
    } else {
      for (Iterator<InternalRow> each = child.executeCollectIterator()._2(); each.hasNext(); ) {
        InternalRow row = each.next();
        counter.add(row);
        rows.add(row);
      }
    }
    counter.complete();
    return rows.toArray(new InternalRow[0]);
  }

  /** LIMIT runs as many tasks as it needs, and commands none. */
  private boolean hasOwnWay() {
    try {
      return child.getClass().getMethod("executeCollect").getDeclaringClass() != SparkPlan.class;
    } catch (NoSuchMethodException error) {
      throw new IllegalStateException(error);
    }
  }

  @Override
  public InternalRow[] executeTake(int most) {
    return child.executeTake(most);
  }

  @Override
  public InternalRow[] executeTail(int most) {
    return child.executeTail(most);
  }

  @Override
  public SparkPlan withNewChildrenInternal(IndexedSeq<SparkPlan> children) {
    return new HeldExec(children.head());
  }
}
