package lake.guard;

import java.lang.ref.WeakReference;
import java.lang.reflect.Field;
import java.util.Collections;
import java.util.Map;
import java.util.WeakHashMap;
import org.apache.hive.service.Service;
import org.apache.hive.service.cli.thrift.ThriftBinaryCLIService;
import org.apache.hive.service.server.HiveServer2;
import org.apache.spark.SparkContext;
import org.apache.spark.sql.hive.thriftserver.HiveThriftServer2;
import org.apache.spark.sql.hive.thriftserver.SparkSQLEnv;
import org.apache.thrift.server.TServer;
import org.apache.thrift.transport.TSaslServerTransport;
import org.apache.thrift.transport.TTransport;
import org.apache.thrift.transport.TTransportException;
import org.apache.thrift.transport.TTransportFactory;
import org.apache.thrift.transport.sasl.TSaslServerDefinition;

/**
 * Starts Spark's Thrift server, with one fault of Thrift mended.
 *
 * <p>For each connection the server asks {@link TSaslServerTransport.Factory} twice, for what reads and for what writes,
 * and is to get one and the same transport. Thrift 0.16 keeps it by a weak reference alone, from its login until it is
 * handed over. If Java collects garbage in that moment, nothing is handed over, the second request begins another login on
 * the connection ({@code TSaslNegotiationException: Invalid status 0}), and the client is dropped: some logins in a
 * thousand, with fifty clients on two cores.
 */
public final class Endpoint {
  private Endpoint() {}

  public static void main(String[] arguments) throws ReflectiveOperationException, InterruptedException {
    new HiveServer2.ServerOptionsProcessor("sql-endpoint").parse(arguments);
    SparkSQLEnv.init();
    SparkContext spark = SparkSQLEnv.sparkContext();
    HiveThriftServer2 endpoint = HiveThriftServer2.startWithSparkSession(SparkSQLEnv.sparkSession(), true);
    for (Service service : endpoint.getServices()) {
      if (service instanceof ThriftBinaryCLIService) {
        mend((TServer) field(ThriftBinaryCLIService.class, "server").get(service));
      }
    }
    // Spark stops when the main method returns. If it stopped by itself, the process must end, to be restarted.
    while (!spark.isStopped()) {
      Thread.sleep(1000);
    }
  }

  private static void mend(TServer server) throws ReflectiveOperationException {
    for (String name : new String[] {"inputTransportFactory_", "outputTransportFactory_"}) {
      Field factory = field(TServer.class, name);
      factory.set(server, new Transports((TSaslServerTransport.Factory) factory.get(server)));
    }
  }

  private static Field field(Class<?> owner, String name) throws NoSuchFieldException {
    Field field = owner.getDeclaredField(name);
    field.setAccessible(true);
    return field;
  }

  /** As Thrift's own factory, but for a variable that holds the transport while it is opened and handed over. */
  private static final class Transports extends TTransportFactory {
    // A transport holds its connection: were it held here, neither would ever go.
    private static final Map<TTransport, WeakReference<TTransport>> OPEN = Collections.synchronizedMap(new WeakHashMap<>());

    private final Map<?, ?> definitions;

    private Transports(TSaslServerTransport.Factory factory) throws ReflectiveOperationException {
      definitions = (Map<?, ?>) field(TSaslServerTransport.Factory.class, "serverDefinitionMap").get(factory);
    }

    @Override
    public TTransport getTransport(TTransport connection) throws TTransportException {
      WeakReference<TTransport> known = OPEN.get(connection);
      TTransport open = known == null ? null : known.get();
      if (open != null) {
        return open;
      }
      TSaslServerTransport transport = new TSaslServerTransport(connection);
      definitions.forEach((mechanism, value) -> {
        TSaslServerDefinition definition = (TSaslServerDefinition) value;
        transport.addServerDefinition(
            (String) mechanism, definition.protocol, definition.serverName, definition.props, definition.cbh);
      });
      transport.open();
      OPEN.put(connection, new WeakReference<>(transport));
      return transport;
    }
  }
}
