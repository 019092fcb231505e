package lake.guard;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/**
 * The columns that a part of a statement has, as far as it was parsed: how large each is, once names stand for what they
 * name, and for how many columns it stands.
 */
final class Columns {
  /** Nobody knows yet how many columns a table or view has: most have not so many. */
  private static final long OF_TABLE = 20;
  static final Columns NONE = new Columns(List.of());

  /** Without a name, where only analysis knows it. */
  record Column(String table, String name, long size, long count) {
    private Column in(String other) {
      return new Column(other, name, size, count);
    }
  }

  private final List<Column> all;
  private Map<String, Long> sizes;
  private long unnamed;

  Columns(List<Column> all) {
    this.all = all;
  }

  static Columns ofTable(String table) {
    return new Columns(List.of(new Column(table, null, 1, OF_TABLE)));
  }

  static Columns unnamed(long size, long count) {
    return new Columns(List.of(new Column(null, null, size, count)));
  }

  List<Column> all() {
    return all;
  }

  long count() {
    return all.stream().mapToLong(Column::count).sum();
  }

  /** Of all together. */
  long size() {
    return all.stream().mapToLong(column -> column.size() * column.count()).sum();
  }

  Columns and(Columns other) {
    if (all.isEmpty() || other.all.isEmpty()) {
      return all.isEmpty() ? other : this;
    }
    List<Column> both = new ArrayList<>(all);
    both.addAll(other.all);
    return new Columns(both);
  }

  Columns in(String table) {
    return new Columns(all.stream().map(column -> column.in(table)).toList());
  }

  private long largest() {
    return all.stream().mapToLong(Column::size).max().orElse(1);
  }

  /** Names in the place of others, each for one. */
  Columns renamed(List<String> names) {
    boolean known = all.size() == names.size() && all.stream().allMatch(column -> column.count() == 1);
    long largest = largest();
    List<Column> renamed = new ArrayList<>();
    for (int index = 0; index < names.size(); index++) {
      renamed.add(new Column(null, Guard.lower(names.get(index)), known ? all.get(index).size() : largest, 1));
    }
    return new Columns(renamed);
  }

  /** Of a UNION: what is asked of a column is asked of it in each part, whatever it is called there. */
  Columns over(Columns other) {
    boolean known = all.size() == other.all.size();
    for (int index = 0; known && index < all.size(); index++) {
      known = all.get(index).count() == other.all.get(index).count();
    }
    long most = largest() + other.largest();
    List<Column> both = new ArrayList<>();
    for (int index = 0; index < all.size(); index++) {
      Column column = all.get(index);
      long size = known ? column.size() + other.all.get(index).size() : most;
      both.add(new Column(null, column.name(), size, column.count()));
    }
    if (other.count() > count()) {
      both.add(new Column(null, null, most, other.count() - count()));
    }
    return new Columns(both);
  }

  /** The size of what a name may stand for; 0: there is no column of that name. */
  long named(String name) {
    if (sizes == null) {
      sizes = new HashMap<>();
      for (Column column : all) {
        if (column.name() == null) {
          unnamed = Math.max(unnamed, column.size());
        } else {
          sizes.merge(column.name(), column.size(), Math::max);
        }
      }
    }
    return sizes.getOrDefault(name, 0L);
  }

  /** The size of the largest column of which the name is not known; 0: there is none. */
  long unnamed() {
    named("");
    return unnamed;
  }

  /** The columns that `table.*` stands for: those of a table, or the fields of one column. */
  Columns star(List<String> target) {
    String last = target.get(target.size() - 1);
    List<Column> found = new ArrayList<>(all.stream().filter(column -> last.equals(column.table())).toList());
    if (found.isEmpty() || target.size() > 1) {
      long fields = target.stream().mapToLong(this::named).max().orElse(1);
      long others = all.stream().filter(column -> column.table() == null).mapToLong(Column::count).sum();
      long most = Math.max(Math.max(1, fields), Math.max(unnamed(), others));
      found.add(new Column(null, null, Math.max(most, largest()), most));
    }
    return new Columns(found);
  }
}
