package lake.guard;

import jakarta.servlet.ServletException;
import jakarta.servlet.http.HttpServletRequest;
import jakarta.servlet.http.HttpServletResponse;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.net.SocketAddress;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.SynchronousQueue;
import java.util.concurrent.ThreadPoolExecutor;
import java.util.concurrent.TimeUnit;
import org.apache.hadoop.hive.conf.HiveConf;
import org.apache.hadoop.hive.conf.HiveConf.ConfVars;
import org.apache.hive.service.auth.HiveAuthFactory;
import org.apache.hive.service.cli.session.SessionManager;
import org.apache.hive.service.cli.thrift.ThriftHttpServlet;
import org.apache.hive.service.server.ThreadFactoryWithGarbageCleanup;
import org.apache.thrift.TException;
import org.apache.thrift.TProcessor;
import org.apache.thrift.protocol.TProtocol;
import org.apache.thrift.transport.TTransportException;
import org.sparkproject.jetty.ee10.servlet.ServletContextHandler;
import org.sparkproject.jetty.ee10.servlet.ServletContextRequest;
import org.sparkproject.jetty.ee10.servlet.ServletHolder;
import org.sparkproject.jetty.http.HttpHeader;
import org.sparkproject.jetty.http.HttpStatus;
import org.sparkproject.jetty.io.Connection;
import org.sparkproject.jetty.io.ssl.SslConnection;
import org.sparkproject.jetty.server.AbstractConnectionFactory;
import org.sparkproject.jetty.server.ConnectionFactory;
import org.sparkproject.jetty.server.HttpConfiguration;
import org.sparkproject.jetty.server.HttpConnectionFactory;
import org.sparkproject.jetty.server.Request;
import org.sparkproject.jetty.server.Response;
import org.sparkproject.jetty.server.SecureRequestCustomizer;
import org.sparkproject.jetty.server.Server;
import org.sparkproject.jetty.server.ServerConnector;
import org.sparkproject.jetty.server.handler.SizeLimitHandler;
import org.sparkproject.jetty.util.BufferUtil;
import org.sparkproject.jetty.util.Callback;
import org.sparkproject.jetty.util.ssl.SslContextFactory;
import org.sparkproject.jetty.util.thread.ExecutorThreadPool;
import org.sparkproject.jetty.util.thread.ScheduledExecutorScheduler;

/** The HTTP transport, as Hive's own but for the bounds that {@link Binary} has, too. */
final class Http {
  private static final int LONGEST_HEADER = 8 << 10;
  /** Bytes a second: a body that comes more slowly holds a thread for nothing. */
  private static final int SLOWEST = 1_000;

  /** Connections, from their beginning to the first request with a right password. */
  private final Waiting<Connection> waiting = new Waiting<>(connection -> connection.getEndPoint().close());
  private final Places<Connection> ofUsers = new Places<>(connection -> !connection.getEndPoint().isOpen());
  /** A connection that is closed does not tell its address any more. */
  private final Map<Connection, String> addresses = new ConcurrentHashMap<>();
  private final Map<Connection, Login> logins = new ConcurrentHashMap<>();
  /** The connection of the request that this thread answers. */
  private final ThreadLocal<Connection> current = new ThreadLocal<>();

  private record Login(String user, Places.Place<Connection> place) {}

  private Http() {}

  static Server server(HiveConf conf, int port, int threads, TProcessor processor, HiveAuthFactory logins) throws Exception {
    return new Http().started(conf, port, threads, processor, logins);
  }

  private Server started(HiveConf conf, int port, int threads, TProcessor processor, HiveAuthFactory logins) throws Exception {
    Server server = new Server(new ExecutorThreadPool(new ThreadPoolExecutor(5, threads, 60, TimeUnit.SECONDS,
        new SynchronousQueue<>(), new ThreadFactoryWithGarbageCleanup("HiveServer2-HttpHandler-Pool"))));
    ServerConnector connector = new ServerConnector(server, null, new ScheduledExecutorScheduler("http-scheduler", true), null,
        -1, -1, protocols(conf));
    connector.setPort(port);
    connector.setIdleTimeout(conf.getTimeVar(ConfVars.HIVE_SERVER2_THRIFT_HTTP_MAX_IDLE_TIME, TimeUnit.MILLISECONDS));
    connector.addBean(new Connections());
    server.addConnector(connector);
    ServletContextHandler context = new ServletContextHandler(ServletContextHandler.NO_SESSIONS);
    context.setContextPath("/");
    Servlet servlet = new Servlet(new LoggedIn(processor), conf.getVar(ConfVars.HIVE_SERVER2_AUTHENTICATION), logins);
    context.addServlet(new ServletHolder(servlet), "/" + conf.getVar(ConfVars.HIVE_SERVER2_THRIFT_HTTP_PATH) + "/*");
    context.setErrorHandler(new OneLine());
    server.setErrorHandler(new OneLine());
    SizeLimitHandler sizes = new SizeLimitHandler(Binary.LONGEST_MESSAGE, -1);
    sizes.setHandler(context);
    server.setHandler(sizes);
    server.start();
    return server;
  }

  private static ConnectionFactory[] protocols(HiveConf conf) {
    HttpConfiguration http = new HttpConfiguration();
    http.setRequestHeaderSize(LONGEST_HEADER);
    http.setMinRequestDataRate(SLOWEST);
    http.setSendServerVersion(false);
    if (!conf.getBoolVar(ConfVars.HIVE_SERVER2_USE_SSL)) {
      return new ConnectionFactory[] {new HttpConnectionFactory(http)};
    }
    SecureRequestCustomizer secure = new SecureRequestCustomizer();
    secure.setSniHostCheck(false); // the certificate names the host by which people know it, and not every client does
    http.addCustomizer(secure);
    SslContextFactory.Server tls = new SslContextFactory.Server();
    tls.addExcludeProtocols(conf.getVar(ConfVars.HIVE_SSL_PROTOCOL_BLACKLIST).split(","));
    tls.setKeyStorePath(conf.getVar(ConfVars.HIVE_SERVER2_SSL_KEYSTORE_PATH));
    tls.setKeyStorePassword(conf.getVar(ConfVars.HIVE_SERVER2_SSL_KEYSTORE_PASSWORD));
    return AbstractConnectionFactory.getFactories(tls, new HttpConnectionFactory(http));
  }

  private static String address(Connection connection) {
    SocketAddress address = connection.getEndPoint().getRemoteSocketAddress();
    return address instanceof InetSocketAddress known ? known.getAddress().getHostAddress() : "";
  }

  /** Jetty's own pages name the class of what went wrong. */
  private static final class OneLine implements Request.Handler {
    @Override
    public boolean handle(Request request, Response response, Callback callback) {
      response.getHeaders().put(HttpHeader.CONTENT_TYPE, "text/plain;charset=utf-8");
      String line = response.getStatus() + " " + HttpStatus.getMessage(response.getStatus()) + "\n";
      response.write(true, BufferUtil.toBuffer(line), callback);
      return true;
    }
  }

  private final class Connections implements Connection.Listener {
    @Override
    public void onOpened(Connection connection) {
      if (!(connection instanceof SslConnection)) { // which has the connection in it that matters
        addresses.put(connection, address(connection));
        waiting.begin(address(connection), connection);
      }
    }

    @Override
    public void onClosed(Connection connection) {
      String address = addresses.remove(connection);
      if (address != null) {
        waiting.end(address, connection);
      }
      Login login = logins.remove(connection);
      if (login != null) {
        ofUsers.leave(login.user(), login.place());
      }
    }
  }

  private final class Servlet extends ThriftHttpServlet {
    private Servlet(TProcessor processor, String kind, HiveAuthFactory logins) {
      super(processor, Protocol::new, kind, null, null, logins);
    }

    @Override
    protected void doPost(HttpServletRequest request, HttpServletResponse response) throws ServletException, IOException {
      current.set(ServletContextRequest.getServletContextRequest(request).getConnectionMetaData().getConnection());
      SessionManager.setIpAddress(request.getRemoteAddr()); // the login is told of it
      Answers.request(current.get().getEndPoint()::close);
      try {
        super.doPost(request, response);
      } finally {
        Answers.end();
        current.remove();
      }
    }

    /** Nothing but Thrift is spoken, which needs no other method. */
    @Override
    protected void doGet(HttpServletRequest request, HttpServletResponse response) throws IOException {
      response.sendError(HttpServletResponse.SC_METHOD_NOT_ALLOWED);
    }
  }

  /** Answers requests, all of which come after their password was right. */
  private final class LoggedIn implements TProcessor {
    private final TProcessor processor;

    private LoggedIn(TProcessor processor) {
      this.processor = processor;
    }

    @Override
    public void process(TProtocol in, TProtocol out) throws TException {
      Connection connection = current.get();
      if (!logins.containsKey(connection)) {
        begin(SessionManager.getUserName(), connection);
      }
      processor.process(in, out);
    }

    private void begin(String user, Connection connection) throws TTransportException {
      Places.Place<Connection> place = ofUsers.take(user, Binary.OF_USER);
      if (place == null) {
        String limit = "[LIMIT] " + Binary.OF_USER + " connections of " + user + " are open, the most that are allowed: close some";
        QueryLog.log("login refused", user, "address", SessionManager.getIpAddress(), "end", limit);
        throw new TTransportException(limit);
      }
      ofUsers.fill(place, connection);
      waiting.end(address(connection), connection);
      logins.put(connection, new Login(user, place));
    }
  }
}
