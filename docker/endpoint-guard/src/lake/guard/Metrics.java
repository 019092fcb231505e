package lake.guard;

import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.lang.management.ManagementFactory;
import java.lang.management.MemoryUsage;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.concurrent.ConcurrentSkipListMap;
import java.util.concurrent.Executors;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.LongAdder;

/**
 * What the endpoint does, counted, as a page in Prometheus' text format.
 *
 * <p>It holds no name, address or statement. Its port is for the networks of the stack, and asks for no password.
 */
final class Metrics {
  private static final double[] SECONDS = {0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300};

  private static final Map<String, LongAdder> QUERIES = new ConcurrentSkipListMap<>(); // by how they ended
  private static final Map<String, LongAdder> EVENTS = new ConcurrentSkipListMap<>(); // by their name in the query log
  private static final LongAdder[] WITHIN = new LongAdder[SECONDS.length];
  private static final LongAdder MILLIS = new LongAdder();
  private static final LongAdder COUNT = new LongAdder();
  private static final AtomicInteger SESSIONS = new AtomicInteger();

  static {
    for (int index = 0; index < SECONDS.length; index++) {
      WITHIN[index] = new LongAdder();
    }
    // A counter that begins with its first event hides that one from rate().
    for (String end : List.of("done", "error", "limit", "read_only", "permission", "canceled", "timeout", "closed")) {
      QUERIES.put(end, new LongAdder());
    }
    for (String event : List.of("login", "login refused", "refused", "session ended", "result dropped", "self-check failed")) {
      EVENTS.put(event, new LongAdder());
    }
  }

  private Metrics() {}

  static void serve(int port) throws IOException {
    // Who begins to ask and does not go on holds a thread; by default for ever, and there is one for all.
    System.setProperty("sun.net.httpserver.maxReqTime", "2");
    System.setProperty("sun.net.httpserver.maxRspTime", "2");
    HttpServer server = HttpServer.create(new InetSocketAddress(port), 16);
    server.createContext("/metrics", exchange -> {
      byte[] page = page().getBytes(StandardCharsets.UTF_8);
      exchange.getResponseHeaders().set("Content-Type", "text/plain; version=0.0.4; charset=utf-8");
      exchange.sendResponseHeaders(200, page.length);
      try (exchange) {
        exchange.getResponseBody().write(page);
      }
    });
    // A whole request that waits for one of them is as old as one that does not go on, and would be ended like it.
    server.setExecutor(Executors.newFixedThreadPool(32, work -> {
      Thread thread = new Thread(work, "metrics");
      thread.setDaemon(true);
      return thread;
    }));
    // Its thread is as the one that starts it: another than a daemon would keep a process that has to end.
    Thread starter = new Thread(server::start, "metrics");
    starter.setDaemon(true);
    starter.start();
  }

  /** A statement that ended: its rows are ready, or it has an error. */
  static void query(String end, double seconds) {
    QUERIES.computeIfAbsent(kind(end), kind -> new LongAdder()).increment();
    COUNT.increment();
    MILLIS.add(Math.round(seconds * 1000));
    for (int index = 0; index < SECONDS.length; index++) {
      if (seconds <= SECONDS[index]) {
        WITHIN[index].increment();
      }
    }
  }

  /** Something else that the query log tells. */
  static void event(String name) {
    EVENTS.computeIfAbsent(name, each -> new LongAdder()).increment();
  }

  static void sessions(int open) {
    SESSIONS.set(open);
  }

  /** Of a statement's end its kind: an error's text is a client's, and would be a label without bounds. */
  private static String kind(String end) {
    if (end == null) {
      return "error";
    }
    if (end.equals("done") || end.equals("canceled") || end.equals("timeout") || end.equals("closed")) {
      return end;
    }
    return end.contains("[LIMIT]") ? "limit" : end.contains("[READ_ONLY]") ? "read_only"
        : end.contains("[PERMISSION]") ? "permission" : "error";
  }

  private static String page() {
    StringBuilder page = new StringBuilder();
    family(page, "lake_endpoint_queries_total", "counter", "Statements that ended, by how");
    QUERIES.forEach((end, count) -> line(page, "lake_endpoint_queries_total{end=\"" + end + "\"}", count.sum()));
    family(page, "lake_endpoint_query_duration_seconds", "histogram", "From a statement's start to its end");
    for (int index = 0; index < SECONDS.length; index++) {
      line(page, "lake_endpoint_query_duration_seconds_bucket{le=\"" + SECONDS[index] + "\"}", WITHIN[index].sum());
    }
    line(page, "lake_endpoint_query_duration_seconds_bucket{le=\"+Inf\"}", COUNT.sum());
    line(page, "lake_endpoint_query_duration_seconds_sum", MILLIS.sum() / 1000.0);
    line(page, "lake_endpoint_query_duration_seconds_count", COUNT.sum());
    family(page, "lake_endpoint_events_total", "counter", "Logins, refused logins and what else the query log tells, by its name");
    EVENTS.forEach((event, count) -> line(page, "lake_endpoint_events_total{event=\"" + event + "\"}", count.sum()));
    family(page, "lake_endpoint_sessions", "gauge", "Sessions that are open");
    line(page, "lake_endpoint_sessions", SESSIONS.get());
    MemoryUsage heap = ManagementFactory.getMemoryMXBean().getHeapMemoryUsage();
    family(page, "lake_endpoint_heap_used_bytes", "gauge", "Heap that is used, garbage with it");
    line(page, "lake_endpoint_heap_used_bytes", heap.getUsed());
    family(page, "lake_endpoint_heap_max_bytes", "gauge", "Largest heap");
    line(page, "lake_endpoint_heap_max_bytes", heap.getMax());
    family(page, "lake_endpoint_start_timestamp_seconds", "gauge", "When the process started: it changes with each restart");
    line(page, "lake_endpoint_start_timestamp_seconds", ManagementFactory.getRuntimeMXBean().getStartTime() / 1000.0);
    return page.toString();
  }

  private static void family(StringBuilder page, String name, String type, String help) {
    page.append("# HELP ").append(name).append(' ').append(help).append('\n');
    page.append("# TYPE ").append(name).append(' ').append(type).append('\n');
  }

  private static void line(StringBuilder page, String series, double value) {
    page.append(series).append(' ').append(String.format(Locale.ROOT, "%.3f", value)).append('\n');
  }
}
