package lake.guard;

import java.io.File;
import java.io.FileInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.security.GeneralSecurityException;
import java.security.KeyStore;
import java.security.cert.Certificate;
import java.security.cert.CertificateFactory;
import java.util.Hashtable;
import java.util.Map;
import java.util.concurrent.Semaphore;
import java.util.regex.Pattern;
import javax.naming.Context;
import javax.naming.NamingEnumeration;
import javax.naming.NamingException;
import javax.naming.directory.SearchControls;
import javax.naming.directory.SearchResult;
import javax.naming.ldap.InitialLdapContext;
import javax.naming.ldap.LdapContext;
import javax.net.SocketFactory;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;
import javax.security.sasl.AuthenticationException;

/**
 * Users of an LDAP directory, where LAKE_LDAP_URL names one: whoever can bind with the password and is found by one of
 * the filters, as that user, has its role. The directory is asked with the user's own password, so at logins alone: a
 * role is remembered until the directory takes that user's next one.
 */
final class Ldap {
  private static final String URL = setting("LAKE_LDAP_URL");
  private static final String BIND = setting("LAKE_LDAP_BIND");
  private static final String BASE = setting("LAKE_LDAP_BASE");
  private static final String ANALYSTS = setting("LAKE_LDAP_ANALYSTS");
  private static final String STEWARDS = setting("LAKE_LDAP_STEWARDS");
  private static final String ENGINEERS = setting("LAKE_LDAP_ENGINEERS");
  private static final String AUTHORITIES = setting("LAKE_LDAP_AUTHORITIES");
  private static final String PATIENCE_MS = "5000";
  // None of these means anything in a DN or in a filter; and what follows an @ the Thrift server does not take for part of
  // the name: eve@elsewhere would be eve. To a directory Eve and EVE are eve, too, but to the limits of this process each would
  // be a user of its own.
  private static final Pattern NAME = Pattern.compile("[a-z0-9][a-z0-9._-]{0,63}");
  private static final Semaphore AT_ONCE = new Semaphore(4, true);
  private static final Map<String, String> ROLES = Login.bounded();

  private Ldap() {}

  static boolean isSet() {
    return !URL.isEmpty();
  }

  /** The role that the user had at the last login; null if there was none. */
  static String role(String user) {
    return ROLES.get(user);
  }

  /** Whether the directory takes the password and gives a role. Throws where it cannot be asked. */
  static boolean login(String user, String password) throws AuthenticationException {
    // A bind without a password is an anonymous one, which succeeds.
    if (!NAME.matcher(user).matches() || password.isEmpty()) {
      return false;
    }
    AT_ONCE.acquireUninterruptibly();
    try {
      return bind(user, password);
    } finally {
      AT_ONCE.release();
    }
  }

  private static boolean bind(String user, String password) throws AuthenticationException {
    String principal = BIND.replace("{user}", user);
    LdapContext context = null;
    try {
      context = new InitialLdapContext(environment(principal, password), null);
      String role = finds(context, ENGINEERS, user, principal) ? "engineer"
          : finds(context, STEWARDS, user, principal) ? "steward"
          : finds(context, ANALYSTS, user, principal) ? "analyst" : null;
      if (role == null) {
        System.err.println("endpoint-guard: " + user + " is known to the directory, and found by none of the filters");
        ROLES.remove(user);
        return false;
      }
      ROLES.put(user, role);
      return true;
    } catch (javax.naming.AuthenticationException error) {
      return false;
    } catch (NamingException error) {
      System.err.println("endpoint-guard: " + URL + " cannot be asked: " + error);
      throw new AuthenticationException("the directory cannot be asked");
    } finally {
      close(context);
    }
  }

  private static Hashtable<String, String> environment(String principal, String password) {
    Hashtable<String, String> environment = new Hashtable<>();
    environment.put(Context.INITIAL_CONTEXT_FACTORY, "com.sun.jndi.ldap.LdapCtxFactory");
    environment.put(Context.PROVIDER_URL, URL);
    environment.put(Context.SECURITY_AUTHENTICATION, "simple");
    environment.put(Context.SECURITY_PRINCIPAL, principal);
    environment.put(Context.SECURITY_CREDENTIALS, password);
    environment.put("com.sun.jndi.ldap.connect.timeout", PATIENCE_MS);
    environment.put("com.sun.jndi.ldap.read.timeout", PATIENCE_MS);
    if (new File(AUTHORITIES).length() > 0) {
      environment.put("java.naming.ldap.factory.socket", Sockets.class.getName());
    }
    return environment;
  }

  private static boolean finds(LdapContext context, String filter, String user, String principal) throws NamingException {
    if (filter.isEmpty()) {
      return false;
    }
    SearchControls one = new SearchControls(SearchControls.SUBTREE_SCOPE, 1, 0, new String[0], false, false);
    String withArguments = filter.replace("{user}", "{0}").replace("{dn}", "{1}");
    NamingEnumeration<SearchResult> found = context.search(BASE, withArguments, new Object[] {user, principal}, one);
    try {
      return found.hasMore();
    } catch (javax.naming.PartialResultException error) {
      return false; // Active Directory refers to its other parts, where nobody looks
    } finally {
      found.close();
    }
  }

  private static void close(LdapContext context) {
    try {
      if (context != null) {
        context.close();
      }
    } catch (NamingException error) {
      // It is of no more use in any case.
    }
  }

  private static String setting(String name) {
    return System.getenv().getOrDefault(name, "");
  }

  /** Named to JNDI, for a directory whose certificate is signed by an authority of the file LAKE_LDAP_AUTHORITIES (PEM). */
  public static final class Sockets {
    private Sockets() {}

    public static SocketFactory getDefault() {
      try (InputStream file = new FileInputStream(AUTHORITIES)) {
        KeyStore store = KeyStore.getInstance(KeyStore.getDefaultType());
        store.load(null, null);
        for (Certificate authority : CertificateFactory.getInstance("X.509").generateCertificates(file)) {
          store.setCertificateEntry("authority " + store.size(), authority);
        }
        TrustManagerFactory trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        trust.init(store);
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(null, trust.getTrustManagers(), null);
        return context.getSocketFactory();
      } catch (IOException | GeneralSecurityException error) {
        throw new IllegalStateException(AUTHORITIES + " cannot be used: " + error, error);
      }
    }
  }
}
