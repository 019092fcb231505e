package lake.guard;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.function.Predicate;

/** Counts what each user or address has open. The count is exact, however many ask at once. */
final class Places<T> {
  /** One of somebody's places. It is taken before there is anything to put into it. */
  static final class Place<T> {
    private T content;
  }

  private final Predicate<T> ended;
  private final Map<String, List<Place<T>>> taken = new HashMap<>();

  /** What has ended needs its place no longer. */
  Places(Predicate<T> ended) {
    this.ended = ended;
  }

  /** A place; null where that many are taken. */
  synchronized Place<T> take(String who, int most) {
    List<Place<T>> places = taken.computeIfAbsent(who, name -> new ArrayList<>());
    if (places.size() >= most) {
      places.removeIf(this::hasEnded);
    }
    if (places.size() >= most) {
      return null;
    }
    Place<T> place = new Place<>();
    places.add(place);
    return place;
  }

  synchronized void fill(Place<T> place, T content) {
    place.content = content;
  }

  synchronized void leave(String who, Place<T> place) {
    List<Place<T>> places = taken.get(who);
    if (places != null && places.remove(place) && places.isEmpty()) {
      taken.remove(who);
    }
  }

  /** Forgets what has ended, which would be kept in memory otherwise. */
  synchronized void sweep() {
    taken.values().forEach(places -> places.removeIf(this::hasEnded));
    taken.values().removeIf(List::isEmpty);
  }

  private boolean hasEnded(Place<T> place) {
    return place.content != null && ended.test(place.content);
  }
}
