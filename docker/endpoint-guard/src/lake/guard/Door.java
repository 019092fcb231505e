package lake.guard;

import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.lang.reflect.Proxy;
import java.time.temporal.ChronoUnit;
import java.util.ArrayDeque;
import java.util.Arrays;
import java.util.Deque;
import java.util.Map;
import java.util.Objects;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.Executor;
import java.util.concurrent.Executors;
import java.util.concurrent.Semaphore;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import org.apache.hive.service.auth.HiveAuthFactory;
import org.apache.hive.service.auth.TSetIpAddressProcessor;
import org.apache.hive.service.cli.CLIService;
import org.apache.hive.service.cli.HiveSQLException;
import org.apache.hive.service.cli.OperationHandle;
import org.apache.hive.service.cli.OperationState;
import org.apache.hive.service.cli.SessionHandle;
import org.apache.hive.service.cli.operation.Operation;
import org.apache.hive.service.cli.session.SessionManager;
import org.apache.hive.service.cli.thrift.ThriftHttpCLIService;
import org.apache.hive.service.rpc.thrift.TCLIService;
import org.apache.hive.service.rpc.thrift.TCancelDelegationTokenReq;
import org.apache.hive.service.rpc.thrift.TCancelDelegationTokenResp;
import org.apache.hive.service.rpc.thrift.TCloseOperationReq;
import org.apache.hive.service.rpc.thrift.TCloseOperationResp;
import org.apache.hive.service.rpc.thrift.TExecuteStatementReq;
import org.apache.hive.service.rpc.thrift.TExecuteStatementResp;
import org.apache.hive.service.rpc.thrift.TFetchResultsReq;
import org.apache.hive.service.rpc.thrift.TFetchResultsResp;
import org.apache.hive.service.rpc.thrift.TGetColumnsReq;
import org.apache.hive.service.rpc.thrift.TGetColumnsResp;
import org.apache.hive.service.rpc.thrift.TGetCrossReferenceReq;
import org.apache.hive.service.rpc.thrift.TGetCrossReferenceResp;
import org.apache.hive.service.rpc.thrift.TGetDelegationTokenReq;
import org.apache.hive.service.rpc.thrift.TGetDelegationTokenResp;
import org.apache.hive.service.rpc.thrift.TGetFunctionsReq;
import org.apache.hive.service.rpc.thrift.TGetFunctionsResp;
import org.apache.hive.service.rpc.thrift.TGetOperationStatusReq;
import org.apache.hive.service.rpc.thrift.TGetOperationStatusResp;
import org.apache.hive.service.rpc.thrift.TGetPrimaryKeysReq;
import org.apache.hive.service.rpc.thrift.TGetPrimaryKeysResp;
import org.apache.hive.service.rpc.thrift.TGetResultSetMetadataReq;
import org.apache.hive.service.rpc.thrift.TGetResultSetMetadataResp;
import org.apache.hive.service.rpc.thrift.TGetSchemasReq;
import org.apache.hive.service.rpc.thrift.TGetSchemasResp;
import org.apache.hive.service.rpc.thrift.TGetTablesReq;
import org.apache.hive.service.rpc.thrift.TGetTablesResp;
import org.apache.hive.service.rpc.thrift.TOpenSessionReq;
import org.apache.hive.service.rpc.thrift.TOpenSessionResp;
import org.apache.hive.service.rpc.thrift.TOperationHandle;
import org.apache.hive.service.rpc.thrift.TRenewDelegationTokenReq;
import org.apache.hive.service.rpc.thrift.TRenewDelegationTokenResp;
import org.apache.hive.service.rpc.thrift.TSessionHandle;
import org.apache.hive.service.rpc.thrift.TSetClientInfoReq;
import org.apache.hive.service.rpc.thrift.TSetClientInfoResp;
import org.apache.hive.service.rpc.thrift.TStatus;
import org.apache.hive.service.rpc.thrift.TStatusCode;
import org.apache.hive.service.server.HiveServer2;
import org.apache.spark.sql.hive.thriftserver.SparkExecuteStatementOperation;
import org.apache.thrift.TBase;
import org.apache.thrift.TException;
import org.apache.thrift.TFieldIdEnum;
import org.apache.thrift.protocol.TProtocol;
import org.apache.thrift.server.ServerContext;
import org.apache.thrift.server.TServer;
import org.apache.thrift.server.TServerEventHandler;
import org.apache.thrift.transport.TTransport;

/**
 * What a client may ask beside SQL, over both transports. It is checked before Hive or Spark sees it: Hive substitutes
 * variables in settings, both quote values in their errors, and metadata calls are answered without a statement that
 * {@link Check} could look at.
 */
final class Door extends ThriftHttpCLIService {
  /** Characters. A longer statement was generated, and takes the parser's memory before any other limit is reached. */
  private static final int LONGEST_STATEMENT = 1 << 20;
  private static final int LONGEST_PATTERN = 256;
  private static final int MOST_WILDCARDS = 3;
  private static final Pattern WILDCARDS = Pattern.compile("[%*]");
  private static final Pattern SCHEMA = Pattern.compile("[A-Za-z0-9_]{1,128}");
  private static final Pattern STACK = Pattern.compile("^\\s+at \\S+\\(.*\\)$|^\\s*\\.\\.\\. \\d+ more$|^Caused by: |^Driver stacktrace:$");
  private static final String SETTING = "set:hiveconf:";
  /** A pattern that no schema's name matches. */
  private static final String NO_SCHEMA = "no such schema";

  /** Open ones of a user. A dashboard has some dozens. */
  private static final int SESSIONS = 200;
  /** Statements of a user that run at once: a dashboard is one user. */
  private static final int RUNNING = 64;
  /** Open ones of a user, which hold results: those of metadata, too. */
  private static final int OPEN = 300;
  /** Calls of a user that are worked on at once, of those that take long, and that nothing can stop. */
  private static final int CALLS = 4;
  private static final Set<String> SLOW_CALLS =
      Set.of("OpenSession", "GetSchemas", "GetTables", "GetColumns", "GetFunctions");
  /** Rows and bytes that are handed over at once, whatever a client asks for: it asks again. */
  private static final long MOST_ROWS = 10_000;
  private static final long MOST_BYTES = 16 << 20;
  private static final long METADATA_BYTES = 1 << 20;

  private final Map<SessionHandle, Session> sessions = new ConcurrentHashMap<>();
  private final Places<SessionHandle> openSessions = new Places<>(session -> !isOpen(session));
  private final Places<Operation> running = new Places<>(statement -> statement.getStatus().getState().isTerminal());
  /** Statements by their numbers, while they are open. */
  private final Map<String, OperationHandle> statements = new ConcurrentHashMap<>();
  /** In the order in which they were opened, by user. */
  private final Map<String, Deque<OperationHandle>> opened = new ConcurrentHashMap<>();
  private final Map<String, Semaphore> calls = Login.bounded();
  /** Why a statement was closed, by its handle. */
  private final Map<OperationHandle, String> dropped = Login.bounded();
  /** Hands requests to this, and takes out of answers what tells how the endpoint is made. */
  private final TCLIService.Iface plain = (TCLIService.Iface) Proxy.newProxyInstance(
      Door.class.getClassLoader(), new Class<?>[] {TCLIService.Iface.class}, this::answer);
  private final Executor drops = Executors.newSingleThreadExecutor(work -> {
    Thread thread = new Thread(work, "drops");
    thread.setDaemon(true);
    return thread;
  });
  private TServer binary;

  /** Whose it is, what the user's password was when it began ({@link Users#login}), and its connection; null: over HTTP. */
  private record Session(String user, Object login, ServerContext connection) {}

  Door(CLIService service) {
    super(service, false); // the certificate names the host by which people know it, and not every client does
  }

  // --- transports ----------------------------------------------------------------------------------------------------

  @Override
  protected void initializeServer() {
    HeldResults.onDrop(this::dropSoon);
    try {
      hiveAuthFactory = new HiveAuthFactory(hiveConf);
      if (HiveServer2.isHTTPTransportMode(hiveConf)) {
        httpServer = Http.server(hiveConf, portNum, maxWorkerThreads, new TCLIService.Processor<>(plain), hiveAuthFactory);
        return;
      }
      binary = Binary.server(hiveConf, hiveHost, portNum, maxWorkerThreads, new TSetIpAddressProcessor<>(plain));
      binary.setServerEventHandler(new Connections());
    } catch (Exception error) {
      throw new IllegalStateException("the endpoint cannot listen on port " + portNum, error);
    }
  }

  /** Hive ends one session of a connection that is gone. It may have had many. */
  private final class Connections implements TServerEventHandler {
    @Override
    public void preServe() {
      serverEventHandler.preServe();
    }

    @Override
    public ServerContext createContext(TProtocol in, TProtocol out) {
      return serverEventHandler.createContext(in, out);
    }

    @Override
    public void processContext(ServerContext connection, TTransport in, TTransport out) {
      Answers.request(in::close);
      serverEventHandler.processContext(connection, in, out);
    }

    @Override
    public void deleteContext(ServerContext connection, TProtocol in, TProtocol out) {
      Answers.end();
      serverEventHandler.deleteContext(connection, in, out);
      for (Map.Entry<SessionHandle, Session> entry : sessions.entrySet()) {
        if (entry.getValue().connection == connection && sessions.remove(entry.getKey()) != null && isOpen(entry.getKey())) {
          try {
            cliService.closeSession(entry.getKey());
          } catch (HiveSQLException error) {
            // It was closed meanwhile.
          }
        }
      }
    }
  }

  @Override
  public void run() {
    Thread tidies = new Thread(this::tidy, "sessions");
    tidies.setDaemon(true);
    tidies.start();
    if (binary == null) {
      super.run();
    } else {
      binary.serve();
    }
  }

  @Override
  protected void stopServer() {
    if (binary == null) {
      super.stopServer();
    } else {
      binary.stop();
    }
  }

  // --- requests ------------------------------------------------------------------------------------------------------

  @Override
  public TOpenSessionResp OpenSession(TOpenSessionReq request) throws TException {
    String user = user();
    Object login = Users.login(user);
    TStatus refused = refused(() -> settings(request.getConfiguration()));
    if (refused != null) {
      return new TOpenSessionResp(refused, request.getClient_protocol());
    }
    Places.Place<SessionHandle> place = openSessions.take(user, SESSIONS);
    if (place == null) {
      return new TOpenSessionResp(limited("session refused: " + SESSIONS + " of " + user
          + " are open, the most that are allowed: close some"), request.getClient_protocol());
    }
    SessionHandle session = null;
    try {
      TOpenSessionResp answer = super.OpenSession(request);
      if (answer.isSetSessionHandle()) {
        session = new SessionHandle(answer.getSessionHandle());
        openSessions.fill(place, session);
        sessions.put(session, new Session(user, login, currentServerContext.get()));
      }
      return answer;
    } finally {
      if (session == null) {
        openSessions.leave(user, place);
      }
    }
  }

  /** What a client calls itself. Nothing here asks for it, and the log is not for it. */
  @Override
  public TSetClientInfoResp SetClientInfo(TSetClientInfoReq request) {
    return new TSetClientInfoResp(new TStatus(TStatusCode.SUCCESS_STATUS));
  }

  /** Ends the sessions of users who were removed, or whose password was changed, and forgets what has ended. */
  private void tidy() {
    while (true) {
      try {
        Thread.sleep(2000);
        openSessions.sweep();
        running.sweep();
        statements.values().removeIf(handle -> operation(handle) == null);
        HeldResults.sweep(statements.keySet());
        Answers.sweep();
        for (Deque<OperationHandle> ofUser : opened.values()) {
          synchronized (ofUser) {
            ofUser.removeIf(handle -> operation(handle) == null);
          }
        }
        for (Map.Entry<SessionHandle, Session> entry : sessions.entrySet()) {
          Session session = entry.getValue();
          if (!isOpen(entry.getKey())) {
            sessions.remove(entry.getKey());
          } else if (!Objects.equals(session.login, Users.login(session.user))) {
            sessions.remove(entry.getKey());
            QueryLog.log("session ended", session.user, "end", "the user was changed");
            cliService.closeSession(entry.getKey());
          }
        }
      } catch (InterruptedException error) {
        return;
      } catch (HiveSQLException | RuntimeException error) {
        // It was closed meanwhile, or cannot be: the next statement asks for the role again.
      }
    }
  }

  private boolean isOpen(SessionHandle session) {
    try {
      cliService.getSessionManager().getSession(session);
      return true;
    } catch (HiveSQLException error) {
      return false;
    }
  }

  @Override
  public TExecuteStatementResp ExecuteStatement(TExecuteStatementReq request) throws TException {
    String user = user();
    TStatus refused = refused(() -> {
      settings(request.getConfOverlay());
      length(request.getStatement());
      Nesting.check(request.getStatement());
      restarts(user);
    });
    if (refused != null) {
      return new TExecuteStatementResp(refused);
    }
    int most = Restarts.most(user, RUNNING);
    // Those that were given up have their threads and memory as long as they go on.
    Places.Place<Operation> place = running.take(user, most - RunLimits.current().lingering(user));
    if (place == null) {
      return new TExecuteStatementResp(limited("statement refused: " + most + " of " + user + " at once are allowed"
          + (most == RUNNING ? "" : " within an hour after one that ended the endpoint") + ": wait for an answer"));
    }
    Operation statement = null;
    try {
      TExecuteStatementResp answer = super.ExecuteStatement(request);
      statement = answer.isSetOperationHandle() ? operation(new OperationHandle(answer.getOperationHandle())) : null;
      if (statement != null) {
        running.fill(place, statement);
        known(statement);
      }
      return answer;
    } finally {
      if (statement == null) {
        running.leave(user, place);
      }
    }
  }

  /** From now on the statement can be closed; it may have been asked for meanwhile. */
  private void known(Operation statement) {
    if (statement instanceof SparkExecuteStatementOperation spark) {
      statements.put(spark.statementId(), statement.getHandle());
      if (statement.getStatus().getState() == OperationState.FINISHED && HeldResults.dropped(spark.statementId()) != null) {
        dropSoon(spark.statementId());
      }
    }
  }

  /** Of too many that a user leaves open, the oldest that has ended is closed. */
  private void opened(String user, OperationHandle handle) {
    Deque<OperationHandle> mine = opened.computeIfAbsent(user, key -> new ArrayDeque<>());
    synchronized (mine) {
      mine.add(handle);
      if (mine.size() > OPEN) {
        mine.removeIf(other -> operation(other) == null);
      }
      if (mine.size() > OPEN) {
        mine.stream().filter(this::hasEnded)
            .findFirst().ifPresent(oldest -> {
              mine.remove(oldest);
              drops.execute(() -> drop(oldest, "statement closed: more than " + OPEN + " of " + user
                  + " were open, and this one was the oldest: close what was read"));
            });
      }
    }
  }

  private boolean hasEnded(OperationHandle handle) {
    Operation operation = operation(handle);
    return operation == null || operation.getStatus().getState().isTerminal();
  }

  private Operation operation(OperationHandle handle) {
    try {
      return cliService.getSessionManager().getOperationManager().getOperation(handle);
    } catch (HiveSQLException error) {
      return null;
    }
  }

  /** In a thread of its own: Hive ties a thread to the session in which it closes something. */
  private void dropSoon(String statement) {
    drops.execute(() -> {
      OperationHandle handle = statements.get(statement);
      if (handle != null) {
        drop(handle, "query stopped: " + HeldResults.dropped(statement));
      }
    });
  }

  /** Closes a statement whose result goes, to free the memory. Its client is told why when it asks again. */
  private void drop(OperationHandle handle, String why) {
    Operation operation = operation(handle);
    if (operation != null) {
      dropped.put(handle, why);
      try {
        operation.getParentSession().closeOperation(handle);
      } catch (HiveSQLException error) {
        // Its client has closed it.
      }
    }
  }

  private TStatus dropped(TOperationHandle handle) {
    String why = dropped.get(new OperationHandle(handle));
    return why == null ? null : limited(why);
  }

  @Override
  public TGetOperationStatusResp GetOperationStatus(TGetOperationStatusReq request) throws TException {
    TStatus dropped = dropped(request.getOperationHandle());
    return dropped != null ? new TGetOperationStatusResp(dropped) : super.GetOperationStatus(request);
  }

  @Override
  public TGetResultSetMetadataResp GetResultSetMetadata(TGetResultSetMetadataReq request) throws TException {
    TStatus dropped = dropped(request.getOperationHandle());
    return dropped != null ? new TGetResultSetMetadataResp(dropped) : super.GetResultSetMetadata(request);
  }

  @Override
  public TFetchResultsResp FetchResults(TFetchResultsReq request) throws TException {
    TStatus dropped = dropped(request.getOperationHandle());
    if (dropped != null) {
      return new TFetchResultsResp(dropped);
    }
    HeldResults.Piece piece = operation(new OperationHandle(request.getOperationHandle()))
        instanceof SparkExecuteStatementOperation spark ? HeldResults.fetched(spark.statementId(), MOST_BYTES)
        : new HeldResults.Piece(MOST_ROWS, METADATA_BYTES);
    String user = user();
    TStatus refused = refused(() -> Answers.begin(user, piece.bytes()));
    if (refused != null) {
      return new TFetchResultsResp(refused);
    }
    request.setMaxRows(Math.min(request.getMaxRows(), Math.min(MOST_ROWS, piece.rows())));
    HeldResults.room(user, MOST_BYTES);
    try {
      return super.FetchResults(request);
    } finally {
      HeldResults.leaveRoom();
      Answers.made();
    }
  }

  @Override
  public TCloseOperationResp CloseOperation(TCloseOperationReq request) throws TException {
    OperationHandle handle = new OperationHandle(request.getOperationHandle());
    if (dropped.remove(handle) != null) {
      return new TCloseOperationResp(new TStatus(TStatusCode.SUCCESS_STATUS));
    }
    if (operation(handle) instanceof SparkExecuteStatementOperation spark) {
      statements.remove(spark.statementId());
      HeldResults.release(spark.statementId());
    }
    return super.CloseOperation(request);
  }

  @Override
  public TGetSchemasResp GetSchemas(TGetSchemasReq request) throws TException {
    TStatus refused = patterns(request.getSchemaName());
    if (refused != null) {
      return new TGetSchemasResp(refused);
    }
    request.setSchemaName(readable(request.getSessionHandle(), request.getSchemaName()));
    return super.GetSchemas(request);
  }

  @Override
  public TGetTablesResp GetTables(TGetTablesReq request) throws TException {
    TStatus refused = patterns(request.getSchemaName(), request.getTableName());
    if (refused != null) {
      return new TGetTablesResp(refused);
    }
    request.setSchemaName(readable(request.getSessionHandle(), request.getSchemaName()));
    return super.GetTables(request);
  }

  @Override
  public TGetColumnsResp GetColumns(TGetColumnsReq request) throws TException {
    TStatus refused = patterns(request.getSchemaName(), request.getTableName(), request.getColumnName());
    if (refused != null) {
      return new TGetColumnsResp(refused);
    }
    request.setSchemaName(readable(request.getSessionHandle(), request.getSchemaName()));
    return super.GetColumns(request);
  }

  @Override
  public TGetFunctionsResp GetFunctions(TGetFunctionsReq request) throws TException {
    TStatus refused = patterns(request.getSchemaName(), request.getFunctionName());
    if (refused != null) {
      return new TGetFunctionsResp(refused);
    }
    request.setSchemaName(readable(request.getSessionHandle(), request.getSchemaName()));
    return super.GetFunctions(request);
  }

  // Keys and tokens: for these Hive makes a client of the metastore by itself. There are none of them here.
  @Override
  public TGetPrimaryKeysResp GetPrimaryKeys(TGetPrimaryKeysReq request) {
    return new TGetPrimaryKeysResp(refused("asking for primary keys"));
  }

  @Override
  public TGetCrossReferenceResp GetCrossReference(TGetCrossReferenceReq request) {
    return new TGetCrossReferenceResp(refused("asking for foreign keys"));
  }

  @Override
  public TGetDelegationTokenResp GetDelegationToken(TGetDelegationTokenReq request) {
    return new TGetDelegationTokenResp(refused("a delegation token"));
  }

  @Override
  public TCancelDelegationTokenResp CancelDelegationToken(TCancelDelegationTokenReq request) {
    return new TCancelDelegationTokenResp(refused("a delegation token"));
  }

  @Override
  public TRenewDelegationTokenResp RenewDelegationToken(TRenewDelegationTokenReq request) {
    return new TRenewDelegationTokenResp(refused("a delegation token"));
  }

  // --- checks --------------------------------------------------------------------------------------------------------

  /** The settings of a session, or of one statement. */
  private static void settings(Map<String, String> settings) {
    if (settings == null) {
      return;
    }
    settings.forEach((key, value) -> {
      String text = value == null ? "" : value;
      if (!key.equals("use:database")) {
        Guard.checkSetting(key.startsWith(SETTING) ? key.substring(SETTING.length()) : key, text);
      } else if (!SCHEMA.matcher(text).matches()) {
        throw Guard.refuse("this value of the setting " + key);
      }
    });
  }

  private static void restarts(String user) {
    restarts(user, Restarts.of(user), "look for one that never ends, as a text that is matched with many wildcards");
    restarts(user, Restarts.forMemory(user), "look for one that takes all of the memory, as rows or columns that double again and again");
  }

  private static void restarts(String user, long restarts, String advice) {
    if (restarts > 1) {
      throw Guard.error("[LIMIT] statement refused: " + restarts + " times within an hour the endpoint had to end itself because of a"
          + " statement of " + user + ", and takes none until " + Restarts.until(user).truncatedTo(ChronoUnit.SECONDS) + ": " + advice);
    }
  }

  private static void length(String statement) {
    if (statement != null && statement.length() > LONGEST_STATEMENT) {
      throw Guard.error("[LIMIT] statement refused: it has " + statement.length() + " characters, and " + LONGEST_STATEMENT
          + " are allowed: use fewer literals");
    }
  }

  private static TStatus patterns(String... patterns) {
    return refused(() -> {
      for (String pattern : patterns) {
        checkPattern(pattern);
      }
    });
  }

  /** A name's pattern is tried in every way in which its wildcards fit: with many of them that has no end. */
  static void checkPattern(String pattern) {
    if (pattern != null && (pattern.length() > LONGEST_PATTERN || Arrays.stream(pattern.split("\\|"))
        .anyMatch(name -> WILDCARDS.matcher(name).results().count() > MOST_WILDCARDS))) {
      throw Guard.error("[LIMIT] pattern refused: it has more than " + LONGEST_PATTERN + " characters or " + MOST_WILDCARDS
          + " wildcards: ask for names that are more alike");
    }
  }

  /** Says what to do, where a statement ended because it asked for too much; else what Spark says. */
  private static String plain(String message) {
    int limit = message.indexOf("[LIMIT]");
    if (limit >= 0) {
      return message.substring(limit).lines().findFirst().orElse(message);
    }
    String why = message.contains("StackOverflowError") ? "it is nested too deep, or a text too long for a pattern: ask for less at once"
        : message.contains("OutOfMemoryError") || message.contains("Cannot grow BufferHolder")
            ? "it needs more memory than there is: " + RunLimits.LESS
        : message.contains("java.lang.InterruptedException") ? "it took more time or memory than is allowed: " + RunLimits.LESS : null;
    return why != null ? "[LIMIT] query stopped: " + why
        : message.lines().filter(line -> !STACK.matcher(line).find()).collect(Collectors.joining("\n"));
  }

  private Object answer(Object proxy, Method method, Object[] arguments) throws Throwable {
    if (!SLOW_CALLS.contains(method.getName())) {
      return answer(method, arguments);
    }
    Semaphore turn = calls.computeIfAbsent(user(), user -> new Semaphore(CALLS, true));
    turn.acquire();
    try {
      return answer(method, arguments);
    } finally {
      turn.release();
    }
  }

  private Object answer(Method method, Object[] arguments) throws Throwable {
    try {
      Object answer = method.invoke(this, arguments);
      if (answer instanceof TGetOperationStatusResp status && status.isSetErrorMessage()) {
        status.setErrorMessage(plain(status.getErrorMessage()));
      }
      if (answer instanceof TBase<?, ?> known) {
        plain(known);
      }
      return answer;
    } catch (InvocationTargetException error) {
      if (error.getCause() instanceof VirtualMachineError fatal) {
        // To Thrift that is the end of the connection.
        TBase<?, ?> answer = (TBase<?, ?>) method.getReturnType().getConstructor().newInstance();
        refuse(answer, plain(fatal.toString()));
        return answer;
      }
      throw error.getCause();
    } finally {
      Thread.interrupted(); // a statement that was stopped in this thread; Thrift would close the connection without an answer
    }
  }

  /** An answer's first field is its status. The second is what it opened, if it did. */
  private <F extends TFieldIdEnum> void plain(TBase<?, F> answer) {
    F second = answer.fieldForId(2);
    if (second != null && answer.isSet(second) && answer.getFieldValue(second) instanceof TOperationHandle handle) {
      opened(user(), new OperationHandle(handle));
    }
    F first = answer.fieldForId(1);
    if (first != null && answer.isSet(first) && answer.getFieldValue(first) instanceof TStatus status) {
      status.unsetInfoMessages(); // Hive's stack trace
      if (status.isSetErrorMessage()) {
        status.setErrorMessage(plain(status.getErrorMessage()));
      }
    }
  }

  private static <F extends TFieldIdEnum> void refuse(TBase<?, F> answer, String message) {
    answer.setFieldValue(answer.fieldForId(1), refused(() -> {
      throw Guard.error(message);
    }));
  }

  /** The answer where a check refuses; null where it does not. */
  private static TStatus refused(Runnable check) {
    try {
      check.run();
      return null;
    } catch (Exception error) {
      if (!(error instanceof HiveSQLException known)) {
        throw Guard.sneaky(error);
      }
      QueryLog.log("refused", user(), "address", address(), "end", known.getMessage());
      TStatus status = new TStatus(TStatusCode.ERROR_STATUS);
      status.setSqlState(known.getSQLState());
      status.setErrorMessage(known.getMessage());
      return status;
    }
  }

  private static TStatus refused(String what) {
    return refused(() -> {
      throw Guard.refuse(what);
    });
  }

  private static TStatus limited(String message) {
    return refused(() -> {
      throw Guard.error("[LIMIT] " + message);
    });
  }

  /** The pattern of schemas, as far as the session's user may read them: to Spark `a|b` are two schemas. */
  private String readable(TSessionHandle session, String pattern) {
    String role = role(session);
    if (Users.mayRead(role, "ops")) {
      return pattern;
    }
    Pattern asked = Pattern.compile(regex(pattern == null || pattern.isEmpty() ? "%" : pattern), Pattern.CASE_INSENSITIVE);
    String names = Users.ANALYST_SCHEMAS.stream()
        .filter(schema -> Users.mayRead(role, schema) && asked.matcher(schema).matches())
        .collect(Collectors.joining("|"));
    return names.isEmpty() ? NO_SCHEMA : names;
  }

  /** JDBC's wildcards, which a backslash makes plain, and Spark's. */
  private static String regex(String pattern) {
    StringBuilder regex = new StringBuilder();
    for (int index = 0; index < pattern.length(); index++) {
      char letter = pattern.charAt(index);
      regex.append(switch (letter) {
        case '%', '*' -> ".*";
        case '_', '.' -> ".";
        case '|' -> "|";
        default -> Pattern.quote(String.valueOf(letter == '\\' && ++index < pattern.length() ? pattern.charAt(index) : letter));
      });
    }
    return regex.toString();
  }

  private String role(TSessionHandle session) {
    try {
      return Users.role(cliService.getSessionManager().getSession(new SessionHandle(session)).getUserName());
    } catch (HiveSQLException error) {
      return "none"; // there is no such session, as the call itself will say
    }
  }

  private static String user() {
    String binary = TSetIpAddressProcessor.getUserName();
    return binary != null ? binary : SessionManager.getUserName();
  }

  private static String address() {
    String binary = TSetIpAddressProcessor.getUserIpAddress();
    return binary != null ? binary : SessionManager.getIpAddress();
  }
}
