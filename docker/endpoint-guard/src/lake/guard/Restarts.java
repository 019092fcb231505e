package lake.guard;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;

/**
 * Whose statements this process, or one before it, had to end itself for. It is kept in the file {@code spark.lake.restarts},
 * a line each: when, why, and whose. Without it somebody who repeats such a statement would end the endpoint again and again.
 *
 * <p>Who runs what cannot be stopped is known for sure. Who took the memory is a guess, which limits less: once. It is no
 * guess any more when the same user has it twice.
 */
final class Restarts {
  private static final Duration REMEMBERED = Duration.ofHours(1);

  private static final String STUCK = "stuck";
  private static final String GREEDY = "greedy";
  /** Statements at once of a user who may have taken the memory. */
  private static final int OF_GREEDY = 8;

  private record Restart(Instant at, String why, String user) {}

  private static Path file;
  private static final List<Restart> RESTARTS = new ArrayList<>();

  private Restarts() {}

  /** Reads the file. An endpoint starts without what cannot be read. */
  static void open(Path path) {
    file = path;
    try {
      for (String line : Files.exists(path) ? Files.readAllLines(path) : List.<String>of()) {
        String[] parts = line.split(" ", 3);
        if (parts.length == 3 && parts[0].matches("\\d{1,15}")) {
          RESTARTS.add(new Restart(Instant.ofEpochMilli(Long.parseLong(parts[0])), parts[1], parts[2]));
        }
      }
      RESTARTS.removeIf(Restarts::isOld);
      Files.write(path, RESTARTS.stream()
          .map(restart -> restart.at().toEpochMilli() + " " + restart.why() + " " + restart.user()).toList());
    } catch (IOException error) {
      QueryLog.log("restarts not known", Users.HEALTH, "end", error);
    }
    for (Restart restart : RESTARTS) {
      QueryLog.log("limited after a restart", restart.user(), "end", restart.why(), "until", restart.at().plus(REMEMBERED));
    }
  }

  private static boolean isOld(Restart restart) {
    return restart.at().plus(REMEMBERED).isBefore(Instant.now());
  }

  /** The process is about to end: memory may be short. */
  static void remember(String user, boolean sure) throws IOException {
    if (file != null && !user.isEmpty() && !Users.isOwn(user)) {
      Files.writeString(file, System.currentTimeMillis() + " " + (sure ? STUCK : GREEDY) + " " + Guard.oneLine(user) + "\n",
          StandardOpenOption.CREATE, StandardOpenOption.APPEND);
    }
  }

  /** How many there were, within the time that is remembered, for something that could not be stopped. */
  static long of(String user) {
    return count(user, STUCK);
  }

  /** How many there were, within that time, for memory. */
  static long forMemory(String user) {
    return count(user, GREEDY);
  }

  /** Statements that the user may run at once, of so many. */
  static int most(String user, int usual) {
    return of(user) > 0 ? 1 : forMemory(user) > 0 ? OF_GREEDY : usual;
  }

  private static long count(String user, String why) {
    return RESTARTS.stream()
        .filter(restart -> restart.user().equals(user) && restart.why().equals(why) && !isOld(restart)).count();
  }

  /** When the last one is forgotten. */
  static Instant until(String user) {
    return RESTARTS.stream().filter(restart -> restart.user().equals(user)).map(restart -> restart.at().plus(REMEMBERED))
        .max(Instant::compareTo).orElse(Instant.EPOCH);
  }
}
