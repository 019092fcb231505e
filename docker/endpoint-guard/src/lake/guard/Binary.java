package lake.guard;

import java.io.IOException;
import java.lang.ref.WeakReference;
import java.net.Socket;
import java.net.SocketException;
import java.security.Security;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.WeakHashMap;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.SynchronousQueue;
import java.util.concurrent.ThreadPoolExecutor;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;
import javax.security.auth.callback.Callback;
import javax.security.auth.callback.CallbackHandler;
import javax.security.auth.callback.NameCallback;
import javax.security.auth.callback.PasswordCallback;
import javax.security.sasl.AuthorizeCallback;
import org.apache.hadoop.hive.common.auth.HiveAuthUtils;
import org.apache.hadoop.hive.conf.HiveConf;
import org.apache.hadoop.hive.conf.HiveConf.ConfVars;
import org.apache.hive.service.auth.PlainSaslServer;
import org.apache.hive.service.server.ThreadFactoryWithGarbageCleanup;
import org.apache.thrift.EncodingUtils;
import org.apache.thrift.TProcessor;
import org.apache.thrift.server.TServer;
import org.apache.thrift.server.TThreadPoolServer;
import org.apache.thrift.transport.TSaslServerTransport;
import org.apache.thrift.transport.TServerSocket;
import org.apache.thrift.transport.TSocket;
import org.apache.thrift.transport.TTransport;
import org.apache.thrift.transport.TTransportException;
import org.apache.thrift.transport.TTransportFactory;
import org.apache.thrift.transport.sasl.NegotiationStatus;

/**
 * The binary transport, as Hive's own but for bounds: who has not logged in has seconds and kilobytes, of many such
 * connections the oldest goes, and no client's word for a message's size is believed.
 *
 * <p>It also mends a fault of Thrift 0.16. For each connection the server asks the factory twice, for what reads and for
 * what writes, and is to get one and the same transport, which Thrift keeps by a weak reference alone. If Java collects
 * garbage in that moment, another login begins on the connection, and the client is dropped: some logins in a thousand.
 */
final class Binary {
  private static final int LOGIN_MILLIS = 10_000;
  private static final int LONGEST_LOGIN = 4 << 10;
  static final int LONGEST_MESSAGE = 8 << 20;
  /** A message of so many bytes is no long one. The others of all users together, and half as much of one user. */
  private static final int SHORT_MESSAGE = 64 << 10;
  private static final long MOST_HELD = Runtime.getRuntime().maxMemory() / 32;
  private static final AtomicLong HELD = new AtomicLong();
  private static final Map<String, Long> HELD_OF_USERS = new ConcurrentHashMap<>();
  /** Of a list or map that a client sends: Thrift makes room for as many as it is told of. */
  static final int MOST_ENTRIES = 10_000;
  /** From the login to the first request. */
  private static final int FIRST_MILLIS = 60_000;
  /** From one request to the next: longer than a session may be idle, for a tool that is left open over a day's work. */
  private static final int IDLE_MILLIS = 1000 * Integer.getInteger("lake.guard.idleSeconds", 12 * 3_600); // less in tests
  /** Connections that have logged in. Each has a thread, of which there are {@code hive.server2.thrift.max.worker.threads}. */
  static final int OF_USER = 200;
  private static final int OF_ADDRESS = 350;

  private Binary() {}

  static TServer server(HiveConf conf, String host, int port, int threads, TProcessor processor) throws Exception {
    Security.addProvider(new PlainSaslServer.SaslPlainProvider());
    TServerSocket socket = !conf.getBoolVar(ConfVars.HIVE_SERVER2_USE_SSL)
        ? HiveAuthUtils.getServerSocket(host, port)
        : HiveAuthUtils.getServerSSLSocket(host, port, conf.getVar(ConfVars.HIVE_SERVER2_SSL_KEYSTORE_PATH),
            conf.getVar(ConfVars.HIVE_SERVER2_SSL_KEYSTORE_PASSWORD),
            List.of(conf.getVar(ConfVars.HIVE_SSL_PROTOCOL_BLACKLIST).split(",")));
    ThreadPoolExecutor pool = new ThreadPoolExecutor(5, threads, 60, TimeUnit.SECONDS, new SynchronousQueue<>(),
        new ThreadFactoryWithGarbageCleanup("HiveServer2-Handler-Pool"));
    Waiting<Accepted> waiting = new Waiting<>(Accepted::abort);
    return new TThreadPoolServer(new TThreadPoolServer.Args(inOrder(socket, waiting))
        .processor(processor)
        .transportFactory(new Transports())
        .protocolFactory(Protocol::new)
        .executorService(pool));
  }

  /** Connections wait from the moment in which they are accepted: threads that begin later come in any order. */
  private static TServerSocket inOrder(TServerSocket socket, Waiting<Accepted> waiting) throws TTransportException {
    return new TServerSocket(socket.getServerSocket()) {
      @Override
      public TSocket accept() throws TTransportException {
        Accepted connection = new Accepted(super.accept().getSocket(), waiting);
        waiting.begin(connection.address, connection);
        return connection;
      }
    };
  }

  /** A connection that waits no longer when it is closed, be it that there was no thread for it. */
  private static final class Accepted extends TSocket {
    private final String address;
    private final Waiting<Accepted> waiting;

    private Accepted(Socket socket, Waiting<Accepted> waiting) throws TTransportException {
      super(socket);
      this.address = socket.getInetAddress().getHostAddress();
      this.waiting = waiting;
    }

    /** At once: TLS would wait for a client that does not read. */
    private void abort() {
      try {
        getSocket().setSoLinger(true, 0);
      } catch (SocketException | NullPointerException error) {
        // It is closed already.
      }
      close();
    }

    /** The user is told, or the connection closed. */
    private void end() {
      waiting.end(address, this);
    }

    @Override
    public void close() {
      end();
      super.close();
    }
  }

  private static final class Transports extends TTransportFactory {
    // A transport holds its connection: were it held here, neither would ever go.
    private final Map<TTransport, WeakReference<TTransport>> open = Collections.synchronizedMap(new WeakHashMap<>());
    private final Places<Bounded> ofUsers = new Places<>(transport -> !transport.isOpen());
    private final Places<Bounded> ofAddresses = new Places<>(transport -> !transport.isOpen());

    @Override
    public TTransport getTransport(TTransport connection) throws TTransportException {
      WeakReference<TTransport> known = open.get(connection);
      TTransport transport = known == null ? null : known.get();
      if (transport == null) {
        transport = loggedIn((Accepted) connection);
        open.put(connection, new WeakReference<>(transport));
      }
      return transport;
    }

    private TTransport loggedIn(Accepted connection) throws TTransportException {
      try {
        // While a password is checked, which takes its time, no newer connection is in its way.
        Credentials credentials = new Credentials(connection.address, ofUsers, ofAddresses, connection::end);
        Bounded transport = new Bounded(connection, credentials);
        connection.setTimeout(LOGIN_MILLIS);
        transport.open();
        connection.setTimeout(FIRST_MILLIS);
        connection.getSocket().setKeepAlive(true);
        return transport;
      } catch (IOException error) {
        throw new TTransportException(error);
      } finally {
        connection.end();
      }
    }
  }

  /** A SASL transport that allocates nothing for a message that is not there yet, past its bounds. */
  private static final class Bounded extends TSaslServerTransport {
    private final TSocket connection;
    private final Credentials credentials;
    private boolean used;
    /** Bytes of the message, by the lengths of its frames, and those that have come. */
    private int message;
    private long received;
    /** Those of them that count for all. */
    private long held;
    /** What is to come of a frame. */
    private int frame;

    private Bounded(TSocket connection, Credentials credentials) throws TTransportException {
      super("PLAIN", "CUSTOM", null, Map.of(), credentials, connection);
      this.connection = connection;
      this.credentials = credentials;
    }

    @Override
    public void open() throws TTransportException {
      try {
        super.open();
        credentials.fill(this);
      } catch (TTransportException | RuntimeException error) {
        credentials.leave();
        throw error;
      }
    }

    @Override
    public void close() {
      super.close();
      release();
      credentials.leave();
    }

    /** The reason that a person can do something about, beside the words that clients know. */
    @Override
    protected TTransportException sendAndThrowMessage(NegotiationStatus status, String text) throws TTransportException {
      return super.sendAndThrowMessage(status, credentials.limit == null ? text : text + ": " + credentials.limit);
    }

    @Override
    protected SaslResponse receiveSaslMessage() throws TTransportException {
      byte[] header = new byte[STATUS_BYTES + PAYLOAD_LENGTH_BYTES];
      underlyingTransport.readAll(header, 0, header.length);
      NegotiationStatus status;
      try {
        status = NegotiationStatus.byValue(header[0]);
      } catch (TTransportException error) {
        throw sendAndThrowMessage(NegotiationStatus.ERROR, "Invalid status " + header[0]);
      }
      byte[] payload = new byte[bounded(EncodingUtils.decodeBigEndian(header, STATUS_BYTES), LONGEST_LOGIN)];
      underlyingTransport.readAll(payload, 0, payload.length);
      if (status == NegotiationStatus.BAD || status == NegotiationStatus.ERROR) {
        throw new TTransportException("the client ended the login");
      }
      return new SaslResponse(status, payload);
    }

    /** Thrift would make room for a whole frame as soon as its length is told. Of PLAIN nothing is to be decoded. */
    @Override
    public int read(byte[] bytes, int offset, int length) throws TTransportException {
      if (!isOpen()) {
        throw new TTransportException("the login has not ended");
      }
      while (frame == 0) {
        frame = readLength();
      }
      int read = underlyingTransport.read(bytes, offset, Math.min(length, frame));
      frame -= read;
      hold(read);
      return read;
    }

    /** Long messages of all connections are in memory together, until they are answered. */
    private void hold(int read) throws TTransportException {
      received += read;
      if (received <= SHORT_MESSAGE) {
        return;
      }
      held += read;
      long ofAll = HELD.addAndGet(read);
      long ofUser = HELD_OF_USERS.merge(credentials.user, (long) read, Long::sum);
      if (ofAll > MOST_HELD || ofUser > MOST_HELD / 2) {
        QueryLog.log("message refused", credentials.user, "address", credentials.address, "MiB", ofUser >> 20);
        throw new TTransportException("too many long messages at once");
      }
    }

    private void release() {
      long bytes = held;
      if (bytes > 0) {
        HELD.addAndGet(-bytes);
        HELD_OF_USERS.computeIfPresent(credentials.user, (user, all) -> all > bytes ? all - bytes : null);
      }
      held = 0;
      received = 0;
    }

    /** A message may come in several frames, which are bounded together. */
    @Override
    protected int readLength() throws TTransportException {
      int length = bounded(super.readLength(), LONGEST_MESSAGE);
      message = bounded(message + length, LONGEST_MESSAGE);
      if (!used) {
        used = true;
        connection.setTimeout(IDLE_MILLIS);
      }
      return length;
    }

    @Override
    public void flush() throws TTransportException {
      message = 0;
      release();
      try {
        super.flush();
      } finally {
        Answers.end();
      }
    }

    private static int bounded(int length, int most) throws TTransportException {
      if (length < 0 || length > most) {
        throw new TTransportException("a message of " + length + " bytes, and " + most + " are allowed");
      }
      return length;
    }
  }

  /** Who logs in, and the places that the connection has from then on. */
  private static final class Credentials implements CallbackHandler {
    private final String address;
    private final Places<Bounded> ofUsers;
    private final Places<Bounded> ofAddresses;
    private String user;
    private final Runnable known;
    private Places.Place<Bounded> ofUser;
    private Places.Place<Bounded> ofAddress;
    private String limit;

    private Credentials(String address, Places<Bounded> ofUsers, Places<Bounded> ofAddresses, Runnable known) {
      this.address = address;
      this.ofUsers = ofUsers;
      this.ofAddresses = ofAddresses;
      this.known = known;
    }

    @Override
    public void handle(Callback[] callbacks) throws IOException {
      String name = null;
      String password = null;
      AuthorizeCallback authorize = null;
      for (Callback callback : callbacks) {
        if (callback instanceof NameCallback named) {
          name = named.getName();
        } else if (callback instanceof PasswordCallback secret) {
          password = new String(secret.getPassword());
        } else if (callback instanceof AuthorizeCallback asked) {
          authorize = asked;
        }
      }
      known.run();
      Login.check(name, password, address);
      user = name;
      ofUser = ofUsers.take(user, OF_USER);
      // The lakehouse's own users always find a place.
      ofAddress = ofUser == null || Users.isOwn(user) ? null : ofAddresses.take(address, OF_ADDRESS);
      if (ofUser == null || ofAddress == null && !Users.isOwn(user)) {
        limit = "[LIMIT] " + (ofUser == null ? OF_USER + " connections of " + user : OF_ADDRESS + " connections of this address")
            + " are open, the most that are allowed: close some";
        QueryLog.log("login refused", user, "address", address, "end", limit);
        throw new IOException(limit);
      }
      if (authorize != null) {
        authorize.setAuthorized(true);
      }
    }

    private void fill(Bounded transport) {
      if (ofUser != null) {
        ofUsers.fill(ofUser, transport);
      }
      if (ofAddress != null) {
        ofAddresses.fill(ofAddress, transport);
      }
    }

    private void leave() {
      if (ofUser != null) {
        ofUsers.leave(user, ofUser);
      }
      if (ofAddress != null) {
        ofAddresses.leave(address, ofAddress);
      }
    }
  }
}
