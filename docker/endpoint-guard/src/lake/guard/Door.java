package lake.guard;

import java.util.Map;
import java.util.Objects;
import java.util.concurrent.ConcurrentHashMap;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import org.apache.hive.service.auth.HiveAuthFactory;
import org.apache.hive.service.auth.TSetIpAddressProcessor;
import org.apache.hive.service.cli.CLIService;
import org.apache.hive.service.cli.HiveSQLException;
import org.apache.hive.service.cli.SessionHandle;
import org.apache.hive.service.cli.session.SessionManager;
import org.apache.hive.service.cli.thrift.ThriftHttpCLIService;
import org.apache.hive.service.rpc.thrift.TCancelDelegationTokenReq;
import org.apache.hive.service.rpc.thrift.TCancelDelegationTokenResp;
import org.apache.hive.service.rpc.thrift.TExecuteStatementReq;
import org.apache.hive.service.rpc.thrift.TExecuteStatementResp;
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
import org.apache.hive.service.rpc.thrift.TGetSchemasReq;
import org.apache.hive.service.rpc.thrift.TGetSchemasResp;
import org.apache.hive.service.rpc.thrift.TGetTablesReq;
import org.apache.hive.service.rpc.thrift.TGetTablesResp;
import org.apache.hive.service.rpc.thrift.TOpenSessionReq;
import org.apache.hive.service.rpc.thrift.TOpenSessionResp;
import org.apache.hive.service.rpc.thrift.TRenewDelegationTokenReq;
import org.apache.hive.service.rpc.thrift.TRenewDelegationTokenResp;
import org.apache.hive.service.rpc.thrift.TSessionHandle;
import org.apache.hive.service.rpc.thrift.TStatus;
import org.apache.hive.service.rpc.thrift.TStatusCode;
import org.apache.hive.service.server.HiveServer2;
import org.apache.thrift.TException;
import org.apache.thrift.server.TServer;

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
  private static final String SETTING = "set:hiveconf:";
  /** A pattern that no schema's name matches. */
  private static final String NO_SCHEMA = "no such schema";

  /** Open ones of a user. A dashboard has some dozens. */
  private static final int SESSIONS = 200;

  private final Map<SessionHandle, Session> sessions = new ConcurrentHashMap<>();
  private TServer binary;

  /** Whose it is, and what the user's password was when it began ({@link Users#login}). */
  private record Session(String user, Object login) {}

  Door(CLIService service) {
    super(service, false); // the certificate names the host by which people know it, and not every client does
  }

  // --- transports ----------------------------------------------------------------------------------------------------

  @Override
  protected void initializeServer() {
    if (HiveServer2.isHTTPTransportMode(hiveConf)) {
      super.initializeServer();
      return;
    }
    try {
      hiveAuthFactory = new HiveAuthFactory(hiveConf);
      binary = Binary.server(hiveConf, hiveHost, portNum, maxWorkerThreads, new TSetIpAddressProcessor<>(this));
      binary.setServerEventHandler(serverEventHandler);
    } catch (Exception error) {
      throw new IllegalStateException("the endpoint cannot listen on port " + portNum, error);
    }
  }

  @Override
  public void run() {
    Thread ends = new Thread(this::endSessions, "sessions");
    ends.setDaemon(true);
    ends.start();
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
    TStatus refused = refused(() -> {
      settings(request.getConfiguration());
      if (sessions.values().stream().filter(session -> session.user.equals(user)).count() >= SESSIONS) {
        throw Guard.error("[LIMIT] " + SESSIONS + " sessions are open for " + user + ", the most that are allowed: close some");
      }
    });
    if (refused != null) {
      return new TOpenSessionResp(refused, request.getClient_protocol());
    }
    TOpenSessionResp answer = super.OpenSession(request);
    if (answer.isSetSessionHandle()) {
      sessions.put(new SessionHandle(answer.getSessionHandle()), new Session(user, login));
    }
    return answer;
  }

  /** Ends the sessions of users who were removed, or whose password was changed. */
  private void endSessions() {
    while (true) {
      try {
        Thread.sleep(2000);
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
    TStatus refused = refused(() -> {
      settings(request.getConfOverlay());
      length(request.getStatement());
    });
    if (refused != null) {
      return new TExecuteStatementResp(refused);
    }
    TExecuteStatementResp answer = super.ExecuteStatement(request);
    if (answer.getStatus().isSetErrorMessage()) {
      answer.getStatus().setErrorMessage(plain(answer.getStatus().getErrorMessage()));
    }
    return answer;
  }

  @Override
  public TGetOperationStatusResp GetOperationStatus(TGetOperationStatusReq request) throws TException {
    TGetOperationStatusResp answer = super.GetOperationStatus(request);
    if (answer.isSetErrorMessage()) {
      answer.setErrorMessage(plain(answer.getErrorMessage()));
    }
    return answer;
  }

  @Override
  public TGetSchemasResp GetSchemas(TGetSchemasReq request) throws TException {
    TStatus refused = patterns(request.getSchemaName());
    return refused != null ? new TGetSchemasResp(refused) : super.GetSchemas(request);
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

  private static void length(String statement) {
    if (statement != null && statement.length() > LONGEST_STATEMENT) {
      throw Guard.error("[LIMIT] statement refused: it has " + statement.length() + " characters, and " + LONGEST_STATEMENT
          + " are allowed: use fewer literals");
    }
  }

  /** A name's pattern is tried in every way in which its wildcards fit: with many of them that has no end. */
  private static TStatus patterns(String... patterns) {
    return refused(() -> {
      for (String pattern : patterns) {
        if (pattern != null && (pattern.length() > LONGEST_PATTERN || WILDCARDS.matcher(pattern).results().count() > MOST_WILDCARDS)) {
          throw Guard.error("[LIMIT] pattern refused: it has more than " + LONGEST_PATTERN + " characters or " + MOST_WILDCARDS
              + " wildcards: ask for names that are more alike");
        }
      }
    });
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
    return why == null ? message : "[LIMIT] query stopped: " + why;
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
