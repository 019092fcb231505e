package lake.guard;

import java.time.LocalDate;
import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import org.apache.spark.sql.catalyst.expressions.And;
import org.apache.spark.sql.catalyst.expressions.Attribute;
import org.apache.spark.sql.catalyst.expressions.EqualNullSafe;
import org.apache.spark.sql.catalyst.expressions.EqualTo;
import org.apache.spark.sql.catalyst.expressions.Expression;
import org.apache.spark.sql.catalyst.expressions.GreaterThan;
import org.apache.spark.sql.catalyst.expressions.GreaterThanOrEqual;
import org.apache.spark.sql.catalyst.expressions.In;
import org.apache.spark.sql.catalyst.expressions.InSet;
import org.apache.spark.sql.catalyst.expressions.LessThan;
import org.apache.spark.sql.catalyst.expressions.LessThanOrEqual;
import org.apache.spark.sql.catalyst.expressions.Literal;
import org.apache.spark.sql.catalyst.expressions.Year;
import org.apache.spark.sql.catalyst.plans.logical.Filter;
import org.apache.spark.sql.catalyst.plans.logical.LogicalPlan;
import org.apache.spark.sql.catalyst.rules.Rule;
import org.apache.spark.sql.execution.datasources.HadoopFsRelation;
import org.apache.spark.sql.execution.datasources.LogicalRelation;
import org.apache.spark.sql.types.DataTypes;
import scala.jdk.javaapi.CollectionConverters;
import scala.runtime.AbstractPartialFunction;

/**
 * Which dates a condition lets through, and the years of them: small marts are partitioned by year, and queries speak of
 * dates and times. Spark cannot know that a row's year is that of its date, so it would read all years.
 */
final class Dates {
  private static final long DAY = 86_400_000_000L; // microseconds

  private Dates() {}

  /** Days since 1970, first and last one included. */
  record Range(long first, long last) {
    static final Range ALL = new Range(Integer.MIN_VALUE, Integer.MAX_VALUE);

    private Range and(Range other) {
      return new Range(Math.max(first, other.first), Math.min(last, other.last));
    }
  }

  /** Local dates of rows for which all conditions can hold; no fewer, maybe more. */
  static Range of(Collection<Expression> conditions) {
    return conditions.stream().map(Dates::of).reduce(Range.ALL, Range::and);
  }

  private static Range of(Expression condition) {
    if (condition instanceof And both) {
      return of(both.left()).and(of(both.right()));
    }
    if (condition instanceof In in) {
      List<Expression> values = CollectionConverters.asJava(in.list());
      return values.stream().allMatch(Literal.class::isInstance)
          ? hull(in.value(), values.stream().map(value -> ((Literal) value).value()).toList()) : Range.ALL;
    }
    if (condition instanceof InSet in) {
      return hull(in.child(), new ArrayList<>(CollectionConverters.asJava(in.hset())));
    }
    List<Expression> sides = CollectionConverters.asJava(condition.children());
    if (sides.size() != 2) {
      return Range.ALL;
    }
    boolean turned = sides.get(0) instanceof Literal;
    if (!((turned ? sides.get(0) : sides.get(1)) instanceof Literal literal)) {
      return Range.ALL;
    }
    Range range = days(turned ? sides.get(1) : sides.get(0), literal.value());
    boolean from = condition instanceof GreaterThan || condition instanceof GreaterThanOrEqual;
    boolean until = condition instanceof LessThan || condition instanceof LessThanOrEqual;
    if (range == null || !(from || until || condition instanceof EqualTo || condition instanceof EqualNullSafe)) {
      return Range.ALL;
    }
    if (from || until) {
      return from != turned ? new Range(range.first(), Range.ALL.last()) : new Range(Range.ALL.first(), range.last());
    }
    return range;
  }

  private static Range hull(Expression column, List<?> values) {
    Range hull = null;
    for (Object value : values) {
      Range range = days(column, value);
      if (range == null) {
        return Range.ALL;
      }
      hull = hull == null ? range : new Range(Math.min(hull.first, range.first), Math.max(hull.last, range.last));
    }
    return hull == null ? Range.ALL : hull;
  }

  /** The local dates that a value of a column stands for, null if it says nothing of them. */
  private static Range days(Expression column, Object value) {
    if (column instanceof Year year && value instanceof Integer number && Math.abs(number) < 10_000) {
      long first = LocalDate.of(number, 1, 1).toEpochDay();
      Range range = days(year.child(), (int) first);
      return range == null ? null : new Range(range.first(), LocalDate.of(number, 12, 31).toEpochDay());
    }
    if (!(column instanceof Attribute named) || value == null) {
      return null;
    }
    boolean time = named.dataType().equals(DataTypes.TimestampType) && value instanceof Long;
    long day = time ? Math.floorDiv((Long) value, DAY) : value instanceof Integer days ? days : 0;
    return switch (named.name()) {
      case "date" -> named.dataType().equals(DataTypes.DateType) ? new Range(day, day) : null;
      case "interval_start" -> time ? new Range(day, day) : null; // which is local
      case "interval_start_utc" -> time ? new Range(day, day + 1) : null; // local time is not behind UTC
      default -> null;
    };
  }

  /** Adds to conditions on the dates of a table that is partitioned by year what they say of the year. */
  static Rule<LogicalPlan> years() {
    return new Rule<>() {
      @Override
      public LogicalPlan apply(LogicalPlan plan) {
        return plan.exists(node -> withYears(node) != null) ? (LogicalPlan) plan.transformUp(WITH_YEARS) : plan;
      }
    };
  }

  private static final AbstractPartialFunction<LogicalPlan, LogicalPlan> WITH_YEARS = new AbstractPartialFunction<>() {
    @Override
    public boolean isDefinedAt(LogicalPlan node) {
      return withYears(node) != null;
    }

    @Override
    public LogicalPlan apply(LogicalPlan node) {
      return withYears(node);
    }
  };

  private static LogicalPlan withYears(LogicalPlan node) {
    if (!(node instanceof Filter filter && filter.child() instanceof LogicalRelation read
        && read.relation() instanceof HadoopFsRelation table && table.partitionSchema().length() == 1
        && table.partitionSchema().fields()[0].name().equals("year"))) {
      return null;
    }
    Range range = of(filter.condition());
    Attribute year = CollectionConverters.asJava(read.output()).stream()
        .filter(column -> column.name().equals("year")).findFirst().orElse(null);
    if (range.equals(Range.ALL) || year == null || filter.condition().references().contains(year)) {
      return null;
    }
    Expression known = filter.condition();
    if (range.first() > Range.ALL.first()) {
      known = new And(known, new GreaterThanOrEqual(year, year(range.first())));
    }
    if (range.last() < Range.ALL.last()) {
      known = new And(known, new LessThanOrEqual(year, year(range.last())));
    }
    return new Filter(known, read);
  }

  private static Literal year(long day) {
    return new Literal(LocalDate.ofEpochDay(day).getYear(), DataTypes.IntegerType);
  }
}
