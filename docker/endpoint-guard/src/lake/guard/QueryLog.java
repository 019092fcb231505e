package lake.guard;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.time.Instant;
import java.util.Collection;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.Map;
import org.apache.logging.log4j.LogManager;
import org.apache.logging.log4j.Logger;
import org.apache.logging.log4j.message.ObjectMessage;
import org.apache.spark.scheduler.SparkListener;
import org.apache.spark.scheduler.SparkListenerEvent;
import org.apache.spark.sql.hive.thriftserver.ui.SparkListenerThriftServerOperationCanceled;
import org.apache.spark.sql.hive.thriftserver.ui.SparkListenerThriftServerOperationClosed;
import org.apache.spark.sql.hive.thriftserver.ui.SparkListenerThriftServerOperationError;
import org.apache.spark.sql.hive.thriftserver.ui.SparkListenerThriftServerOperationFinish;
import org.apache.spark.sql.hive.thriftserver.ui.SparkListenerThriftServerOperationStart;
import org.apache.spark.sql.hive.thriftserver.ui.SparkListenerThriftServerOperationTimeout;
import org.apache.spark.sql.hive.thriftserver.ui.SparkListenerThriftServerSessionClosed;
import org.apache.spark.sql.hive.thriftserver.ui.SparkListenerThriftServerSessionCreated;

/**
 * Who logged in and who asked what, a line of JSON each in the endpoint's log; named in {@code spark.extraListeners}.
 *
 * <p>A statement is logged when it ends: when its rows are ready to be fetched, or with its error, as one that the guard
 * refuses.
 */
public final class QueryLog extends SparkListener {
  private static final Logger LOG = LogManager.getLogger("query");
  private static final ObjectMapper JSON = new ObjectMapper();
  private static final Object LEFT_OUT = new Object();
  /** Bytes of a text as JSON writes it. Docker splits a line of 16 KiB, and whoever collects lines could read neither part. */
  private static final int LONGEST = 6_000;
  /** The end of a longer one is kept, too: a comment before a statement does not hide it. */
  private static final int END = 2_000;

  private final Map<String, String> addresses = new HashMap<>(); // by session
  private final Map<String, SparkListenerThriftServerOperationStart> running = new HashMap<>();

  /** Tables with ids that a statement reads, and how it sees these; by statement, until that ends. */
  private record Reads(Collection<String> tables, String ids) {}

  private static final Map<String, Reads> READS = Login.bounded();

  static void reads(String statement, Collection<String> tables, String ids) {
    if (statement != null) {
      READS.put(statement, new Reads(tables, ids));
    }
  }

  /** One listener's events come one after the other. */
  @Override
  public void onOtherEvent(SparkListenerEvent event) {
    if (event instanceof SparkListenerThriftServerSessionCreated created) {
      addresses.put(created.sessionId(), created.ip());
      Metrics.sessions(addresses.size());
      log("login", created.userName(), "address", created.ip());
    } else if (event instanceof SparkListenerThriftServerSessionClosed closed) {
      addresses.remove(closed.sessionId());
      Metrics.sessions(addresses.size());
    } else if (event instanceof SparkListenerThriftServerOperationStart start) {
      running.put(start.id(), start);
    } else if (event instanceof SparkListenerThriftServerOperationFinish finish) {
      ended(finish.id(), finish.finishTime(), "done");
    } else if (event instanceof SparkListenerThriftServerOperationError error) {
      ended(error.id(), error.finishTime(), error.errorMsg());
    } else if (event instanceof SparkListenerThriftServerOperationCanceled canceled) {
      ended(canceled.id(), canceled.finishTime(), "canceled");
    } else if (event instanceof SparkListenerThriftServerOperationTimeout timeout) {
      ended(timeout.id(), timeout.finishTime(), "timeout");
    } else if (event instanceof SparkListenerThriftServerOperationClosed closed) {
      ended(closed.id(), closed.closeTime(), "closed");
    }
  }

  private void ended(String id, long at, String end) {
    SparkListenerThriftServerOperationStart start = running.remove(id);
    Reads reads = READS.remove(id);
    if (start != null) {
      Metrics.query(end, (at - start.startTime()) / 1000.0);
      log("query", start.userName(), "address", addresses.get(start.sessionId()), "statement", start.statement(),
          "started", Instant.ofEpochMilli(start.startTime()), "seconds", (at - start.startTime()) / 1000.0, "end", end,
          "ids", reads == null ? LEFT_OUT : reads.ids(), "ids_of", reads == null ? LEFT_OUT : String.join(" ", reads.tables()));
    }
  }

  /** A line: what happened, to whom, and pairs of a name and a value. */
  static void log(String event, String user, Object... pairs) {
    if (!event.equals("query")) {
      Metrics.event(event);
    }
    Map<String, Object> line = new Line();
    line.put("event", event);
    line.put("user", user);
    for (int index = 0; index < pairs.length; index += 2) {
      Object value = pairs[index + 1];
      if (value == LEFT_OUT) {
        continue;
      }
      line.put((String) pairs[index], value instanceof Number || value == null ? value : shortened(value.toString()));
    }
    LOG.info(new ObjectMessage(line));
  }

  /** An object for a log in JSON, and its JSON for one in text. */
  private static final class Line extends LinkedHashMap<String, Object> {
    @Override
    public String toString() {
      try {
        return JSON.writeValueAsString(this);
      } catch (JsonProcessingException error) {
        throw new IllegalStateException(error);
      }
    }
  }

  static String shortened(String text) {
    if (fits(text, 0, 1, LONGEST) == text.length()) {
      return text;
    }
    int begin = fits(text, 0, 1, LONGEST - END);
    int end = fits(text, text.length() - 1, -1, END);
    return text.substring(0, Character.isLowSurrogate(text.charAt(begin)) ? begin - 1 : begin) + " … "
        + text.substring(Character.isLowSurrogate(text.charAt(end + 1)) ? end + 2 : end + 1);
  }

  /** Index of the first letter from `index` on, forwards or backwards, that is past so many bytes. */
  private static int fits(String text, int index, int step, int most) {
    for (int bytes = 0; 0 <= index && index < text.length(); index += step) {
      char letter = text.charAt(index);
      bytes += letter < ' ' || letter == '\u007f' ? 6 : letter == '"' || letter == '\\' ? 2 : letter < 0x80 ? 1 : letter < 0x800 ? 2 : 3;
      if (bytes > most) {
        break;
      }
    }
    return index;
  }
}
