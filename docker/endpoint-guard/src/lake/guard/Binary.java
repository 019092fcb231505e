package lake.guard;

import java.io.IOException;
import java.lang.ref.WeakReference;
import java.security.Security;
import java.util.ArrayDeque;
import java.util.Collections;
import java.util.Comparator;
import java.util.Deque;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.WeakHashMap;
import java.util.concurrent.SynchronousQueue;
import java.util.concurrent.ThreadPoolExecutor;
import java.util.concurrent.TimeUnit;
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
import org.apache.thrift.protocol.TBinaryProtocol;
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
  private static final int LONGEST_MESSAGE = 8 << 20;
  /** Of a list or map that a client sends: Thrift makes room for as many as it is told of. */
  private static final int MOST_ENTRIES = 10_000;
  /** Connections that have not logged in. Each has a thread, of which there are some hundreds. */
  private static final int WAITING = 100;

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
    return new TThreadPoolServer(new TThreadPoolServer.Args(socket)
        .processor(processor)
        .transportFactory(new Transports())
        .protocolFactory(new TBinaryProtocol.Factory(false, true, LONGEST_MESSAGE, MOST_ENTRIES))
        .executorService(pool));
  }

  private static final class Transports extends TTransportFactory {
    // A transport holds its connection: were it held here, neither would ever go.
    private final Map<TTransport, WeakReference<TTransport>> open = Collections.synchronizedMap(new WeakHashMap<>());
    private final Map<String, Deque<TSocket>> waiting = new HashMap<>();
    private int count;

    @Override
    public TTransport getTransport(TTransport connection) throws TTransportException {
      WeakReference<TTransport> known = open.get(connection);
      TTransport transport = known == null ? null : known.get();
      if (transport == null) {
        transport = loggedIn((TSocket) connection);
        open.put(connection, new WeakReference<>(transport));
      }
      return transport;
    }

    private TTransport loggedIn(TSocket connection) throws TTransportException {
      String address = connection.getSocket().getInetAddress().getHostAddress();
      begin(address, connection);
      try {
        TTransport transport = new Bounded(connection, address);
        connection.setTimeout(LOGIN_MILLIS);
        transport.open();
        connection.setTimeout(0);
        connection.getSocket().setKeepAlive(true);
        return transport;
      } catch (IOException error) {
        throw new TTransportException(error);
      } finally {
        end(address, connection);
      }
    }

    private void begin(String address, TSocket connection) {
      TSocket oldest = added(address, connection);
      if (oldest != null) {
        oldest.close(); // which may wait, so nobody else waits for it
      }
    }

    /** Of too many, the oldest of the address that has most of them, which is no longer counted. */
    private synchronized TSocket added(String address, TSocket connection) {
      waiting.computeIfAbsent(address, key -> new ArrayDeque<>()).add(connection);
      if (++count <= WAITING) {
        return null;
      }
      count--;
      return waiting.values().stream().max(Comparator.comparingInt(Deque::size)).orElseThrow().poll();
    }

    private synchronized void end(String address, TSocket connection) {
      Deque<TSocket> others = waiting.get(address);
      if (others != null && others.removeIf(other -> other == connection)) {
        count--;
      }
      if (others != null && others.isEmpty()) {
        waiting.remove(address);
      }
    }
  }

  /** A SASL transport that allocates nothing for a message that is not there yet, past its bounds. */
  private static final class Bounded extends TSaslServerTransport {
    private Bounded(TTransport connection, String address) throws TTransportException {
      super("PLAIN", "CUSTOM", null, Map.of(), new Credentials(address), connection);
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

    @Override
    protected int readLength() throws TTransportException {
      return bounded(super.readLength(), LONGEST_MESSAGE);
    }

    private static int bounded(int length, int most) throws TTransportException {
      if (length < 0 || length > most) {
        throw new TTransportException("a message of " + length + " bytes, and " + most + " are allowed");
      }
      return length;
    }
  }

  private record Credentials(String address) implements CallbackHandler {
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
      Login.check(name, password, address);
      if (authorize != null) {
        authorize.setAuthorized(true);
      }
    }
  }
}
