package lake.guard;

import java.nio.charset.StandardCharsets;
import java.security.GeneralSecurityException;
import java.security.MessageDigest;
import java.security.SecureRandom;
import java.util.HexFormat;
import java.util.LinkedHashMap;
import java.util.Locale;
import java.util.Map;
import java.util.concurrent.Semaphore;
import java.util.concurrent.TimeUnit;
import javax.crypto.Mac;
import javax.crypto.SecretKeyFactory;
import javax.crypto.spec.PBEKeySpec;
import javax.crypto.spec.SecretKeySpec;
import javax.security.sasl.AuthenticationException;
import org.apache.hive.service.auth.PasswdAuthenticationProvider;

/**
 * Checks user and password of every connection. The Thrift server makes one of these a connection, so what is remembered
 * is static.
 *
 * <p>A password is kept as PBKDF2-HMAC-SHA256. One check takes some tenths of a second of a core, the same for a wrong
 * password and an unknown user, and few run at once. A login that was right is remembered for some minutes, as a keyed
 * hash in memory alone, so that a dashboard's fifty connections cost one check. From the fifth wrong password on a user
 * must wait, twice as long each time, up to a minute; while that lasts no password is looked at. Who is not in the users'
 * file may be in an LDAP directory, if there is one ({@link Ldap}).
 */
public final class Login implements PasswdAuthenticationProvider {
  private static final int ITERATIONS = 600_000;
  private static final int HASH_BYTES = 32;
  private static final Semaphore CHECKS = new Semaphore(2, true);
  private static final long CHECK_WAIT_SECONDS = 20;
  private static final long REMEMBER = TimeUnit.MINUTES.toNanos(10);
  private static final int FREE_FAILURES = 5;
  private static final long LONGEST_WAIT_SECONDS = 60;
  private static final int REMEMBERED = 10_000;

  private static final byte[] KEY = random(32);
  private static final byte[] NO_SALT = random(16);
  private static final Map<String, Success> SUCCESSES = bounded();
  private static final Map<String, Failures> FAILURES = bounded();

  private record Success(byte[] mac, long until) {}

  private record Failures(int count, long last, long until) {}

  /** Over HTTP. */
  @Override
  public void Authenticate(String name, String password) throws AuthenticationException {
    check(name, password, null);
  }

  /** The address is for the log; null: not known. */
  static void check(String name, String password, String address) throws AuthenticationException {
    String user = name == null || name.length() > 64 ? "" : name;
    String secret = decoded(password == null ? "" : password);
    // Before all else: a generated password needs no slow hash, and nobody must be able to keep the health check out.
    if (Users.isOwn(user, secret)) {
      return;
    }
    long now = System.nanoTime();
    // A directory takes a name in capital letters for the same.
    String person = user.toLowerCase(Locale.ROOT);
    Failures failures = FAILURES.get(person);
    if (failures != null && now - failures.until() < 0) {
      throw new AuthenticationException("too many wrong passwords, wait a minute");
    }
    if (!right(user, secret, now)) {
      long then = System.nanoTime();
      FAILURES.compute(person, (key, before) -> oneMore(before, then));
      QueryLog.log("login refused", user, "address", address);
      throw new AuthenticationException("wrong user name or password");
    }
    FAILURES.remove(person);
  }

  private static boolean right(String user, String secret, long now) throws AuthenticationException {
    boolean own = user.equals(Users.SERVICE) || user.equals(Users.HEALTH);
    Users.User known = own ? null : Users.find(user);
    boolean ldap = known == null && Ldap.isSet() && !own;
    // The stored hash is part of what is remembered: a changed password, or a removed user, is forgotten at once.
    byte[] mac = ldap ? mac("ldap", secret)
        : known == null ? null : mac(new String(known.hash(), StandardCharsets.ISO_8859_1), secret);
    Success success = SUCCESSES.get(user);
    if (mac != null && success != null && now - success.until() < 0 && MessageDigest.isEqual(success.mac(), mac)) {
      return true;
    }
    if (ldap) {
      boolean right = Ldap.login(user, secret);
      if (right) {
        SUCCESSES.put(user, new Success(mac, System.nanoTime() + REMEMBER));
      }
      return right;
    }
    byte[] salt = known == null ? NO_SALT : known.salt();
    int iterations = known == null ? ITERATIONS : known.iterations();
    byte[] expected = known == null ? new byte[HASH_BYTES] : known.hash();
    if (!MessageDigest.isEqual(expected, hash(secret, salt, iterations)) || known == null) {
      return false;
    }
    SUCCESSES.put(user, new Success(mac, System.nanoTime() + REMEMBER));
    return true;
  }

  private static Failures oneMore(Failures before, long now) {
    boolean old = before == null || now - before.last() > TimeUnit.MINUTES.toNanos(15);
    int count = old ? 1 : before.count() + 1;
    long wait = count < FREE_FAILURES ? 0 : Math.min(LONGEST_WAIT_SECONDS, 1L << Math.min(count - FREE_FAILURES, 10));
    return new Failures(count, now, now + TimeUnit.SECONDS.toNanos(wait));
  }

  private static byte[] hash(String secret, byte[] salt, int iterations) throws AuthenticationException {
    try {
      if (!CHECKS.tryAcquire(CHECK_WAIT_SECONDS, TimeUnit.SECONDS)) {
        throw new AuthenticationException("too many logins at once, try again");
      }
      try {
        // An empty password is no key to Java; it must take its time like any other.
        char[] characters = (secret.isEmpty() ? "\0" : secret).toCharArray();
        PBEKeySpec spec = new PBEKeySpec(characters, salt, iterations, HASH_BYTES * 8);
        return SecretKeyFactory.getInstance("PBKDF2WithHmacSHA256").generateSecret(spec).getEncoded();
      } finally {
        CHECKS.release();
      }
    } catch (InterruptedException error) {
      Thread.currentThread().interrupt();
      throw new AuthenticationException("interrupted", error);
    } catch (GeneralSecurityException error) {
      throw new IllegalStateException(error);
    }
  }

  private static byte[] mac(String salt, String secret) {
    try {
      Mac mac = Mac.getInstance("HmacSHA256");
      mac.init(new SecretKeySpec(KEY, "HmacSHA256"));
      mac.update(salt.getBytes(StandardCharsets.ISO_8859_1));
      mac.update((byte) 0);
      return mac.doFinal(secret.getBytes(StandardCharsets.UTF_8));
    } catch (GeneralSecurityException error) {
      throw new IllegalStateException(error);
    }
  }

  /** The password as it was typed: the Thrift server makes a character of every byte of its UTF-8. */
  private static String decoded(String password) {
    if (password.chars().noneMatch(character -> character >= 0xFF80)) {
      return password;
    }
    byte[] bytes = new byte[password.length()];
    for (int index = 0; index < bytes.length; index++) {
      bytes[index] = (byte) password.charAt(index);
    }
    return new String(bytes, StandardCharsets.UTF_8);
  }

  static String sha256(String text) {
    try {
      return HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(text.getBytes(StandardCharsets.UTF_8)));
    } catch (GeneralSecurityException error) {
      throw new IllegalStateException(error);
    }
  }

  static byte[] random(int bytes) {
    byte[] random = new byte[bytes];
    new SecureRandom().nextBytes(random);
    return random;
  }

  /** A map that forgets its oldest entry, so that invented user names do not fill the memory. */
  static <V> Map<String, V> bounded() {
    return java.util.Collections.synchronizedMap(new LinkedHashMap<>(16, 0.75f, true) {
      @Override
      protected boolean removeEldestEntry(Map.Entry<String, V> eldest) {
        return size() > REMEMBERED;
      }
    });
  }
}
