package lake.guard;

import java.nio.charset.StandardCharsets;
import java.security.GeneralSecurityException;
import java.security.MessageDigest;
import java.security.SecureRandom;
import java.util.HashMap;
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
import org.apache.hive.service.cli.session.SessionManager;

/**
 * Checks user and password of every connection. The Thrift server makes one of these a connection, so what is remembered
 * is static.
 *
 * <p>A password is kept as PBKDF2-HMAC-SHA256. One check takes some tenths of a second of a core, the same for a wrong
 * password and an unknown user, and few run at once. A login that was right is remembered for some minutes, as a keyed
 * hash in memory alone, so that a dashboard's fifty connections cost one check. An address has one check at a time, so that
 * no other one waits for all of its guesses.
 *
 * <p>From the fifth wrong password of an address on, it must wait with that user's name, twice as long each time, up to a
 * minute; while that lasts no password is looked at. The same holds for all addresses together, from many guesses on.
 * Who is not in the users' file may be in an LDAP directory, if there is one ({@link Ldap}).
 */
public final class Login implements PasswdAuthenticationProvider {
  private static final int ITERATIONS = 600_000;
  private static final int HASH_BYTES = 32;
  private static final Semaphore CHECKS = new Semaphore(2, true);
  private static final long CHECK_WAIT_SECONDS = 20;
  private static final long REMEMBER = TimeUnit.MINUTES.toNanos(10);
  private static final int FREE_FAILURES = 5;
  /** Of all addresses together. */
  private static final int FREE_FOR_ALL = Integer.getInteger("lake.guard.freeGuesses", 100); // fewer in tests
  /** As many of one address count for all. Later ones are slow, and one address must not keep a user out. */
  private static final int COUNTED = 10;
  /** Logins of an address that wait for each other. */
  private static final int LONGEST_LINE = 60;
  /** Of all addresses: each has a thread. Of more, those have to try again whose address has more than its share. */
  private static final int LONGEST_LINES = 150;
  private static final long LONGEST_WAIT_SECONDS = 60;
  private static final int REMEMBERED = 10_000;

  private static final byte[] KEY = random(32);
  private static final byte[] NO_SALT = random(16);
  private static final Map<String, Success> SUCCESSES = bounded();
  private static final Map<String, Failures> FAILURES = bounded();
  private static final Map<String, Line> LINES = new HashMap<>(); // by address

  private static final class Line {
    private final Semaphore turn = new Semaphore(1, true);
    private int length;
  }

  private record Success(byte[] mac, long until) {}

  private record Failures(int count, long last, long until) {}

  /** Over HTTP. */
  @Override
  public void Authenticate(String name, String password) throws AuthenticationException {
    check(name, password, SessionManager.getIpAddress());
  }

  static void check(String name, String password, String address) throws AuthenticationException {
    String user = name == null || name.length() > 64 ? "" : name;
    String secret = decoded(password == null ? "" : password);
    // Before all else: a generated password needs no slow hash, and nobody must be able to keep the health check out.
    if (Users.isOwn(user, secret)) {
      return;
    }
    // A directory takes a name in capital letters for the same.
    String person = "person " + user.toLowerCase(Locale.ROOT);
    // The address comes first: a name may have any characters, and would be that of another person there.
    String there = "from " + address + " " + person;
    mayGuess(person, there);
    byte[] mac = mac(user, secret);
    if (remembered(user, mac)) {
      return;
    }
    Line line = join(address);
    try {
      // Others of this address have had their turn meanwhile.
      mayGuess(person, there);
      if (remembered(user, mac)) {
        return;
      }
      if (!right(user, secret)) {
        long then = System.nanoTime();
        if (FAILURES.compute(there, (key, before) -> oneMore(before, then, FREE_FAILURES)).count() <= COUNTED) {
          FAILURES.compute(person, (key, before) -> oneMore(before, then, FREE_FOR_ALL));
        }
        QueryLog.log("login refused", user, "address", address);
        throw new AuthenticationException("wrong user name or password");
      }
      SUCCESSES.put(user, new Success(mac, System.nanoTime() + REMEMBER));
      FAILURES.remove(there);
    } finally {
      leave(address, line);
    }
  }

  private static void mayGuess(String... keys) throws AuthenticationException {
    for (String key : keys) {
      Failures failures = FAILURES.get(key);
      if (failures != null && System.nanoTime() - failures.until() < 0) {
        throw new AuthenticationException("too many wrong passwords, wait a minute");
      }
    }
  }

  private static boolean remembered(String user, byte[] mac) {
    Success success = SUCCESSES.get(user);
    return mac != null && success != null && System.nanoTime() - success.until() < 0 && MessageDigest.isEqual(success.mac(), mac);
  }

  /**
   * What is remembered of a right login; null: of this user nothing. The stored hash is part of it: a changed password, or a
   * removed user, is forgotten at once.
   */
  private static byte[] mac(String user, String secret) {
    Users.User known = Users.isOwn(user) ? null : Users.find(user);
    return known != null ? hmac(new String(known.hash(), StandardCharsets.ISO_8859_1), secret)
        : Ldap.isSet() && !Users.isOwn(user) ? hmac("ldap", secret) : null;
  }

  private static boolean right(String user, String secret) throws AuthenticationException {
    Users.User known = Users.isOwn(user) ? null : Users.find(user);
    if (known == null && Ldap.isSet() && !Users.isOwn(user)) {
      return Ldap.login(user, secret);
    }
    byte[] salt = known == null ? NO_SALT : known.salt();
    int iterations = known == null ? ITERATIONS : known.iterations();
    byte[] expected = known == null ? new byte[HASH_BYTES] : known.hash();
    return MessageDigest.isEqual(expected, hash(secret, salt, iterations)) && known != null;
  }

  /** Waits until it is the turn of this login among those of its address. */
  private static Line join(String address) throws AuthenticationException {
    Line line;
    synchronized (LINES) {
      line = LINES.computeIfAbsent(String.valueOf(address), key -> new Line());
      int all = LINES.values().stream().mapToInt(each -> each.length).sum();
      if (line.length >= LONGEST_LINE || all >= LONGEST_LINES && line.length >= Math.max(1, LONGEST_LINES / LINES.size())) {
        throw new AuthenticationException("too many logins at once, try again");
      }
      line.length++;
    }
    try {
      if (line.turn.tryAcquire(CHECK_WAIT_SECONDS, TimeUnit.SECONDS)) {
        return line;
      }
    } catch (InterruptedException error) {
      Thread.currentThread().interrupt();
    }
    shorten(address, line);
    throw new AuthenticationException("too many logins at once, try again");
  }

  private static void leave(String address, Line line) {
    line.turn.release();
    shorten(address, line);
  }

  private static void shorten(String address, Line line) {
    synchronized (LINES) {
      if (--line.length == 0) {
        LINES.remove(String.valueOf(address));
      }
    }
  }

  private static Failures oneMore(Failures before, long now, int free) {
    boolean old = before == null || now - before.last() > TimeUnit.MINUTES.toNanos(15);
    int count = old ? 1 : before.count() + 1;
    long wait = count < free ? 0 : Math.min(LONGEST_WAIT_SECONDS, 1L << Math.min(count - free, 10));
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

  private static byte[] hmac(String salt, String secret) {
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
  static <K, V> Map<K, V> bounded() {
    return java.util.Collections.synchronizedMap(new LinkedHashMap<>(16, 0.75f, true) {
      @Override
      protected boolean removeEldestEntry(Map.Entry<K, V> eldest) {
        return size() > REMEMBERED;
      }
    });
  }
}
