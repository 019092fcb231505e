package lake.guard;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.BasicFileAttributes;
import java.nio.file.attribute.PosixFilePermissions;
import java.security.MessageDigest;
import java.util.Base64;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Set;

/**
 * Who may log in, and which schemas they may read: the file that {@code lake users} writes, and the jobs' own user. Others
 * may come from a directory ({@link Ldap}).
 */
final class Users {
  /**
   * The user of the `lake` commands. The password was generated at the first start; here is its salt and SHA-256 alone, which
   * for a password of 192 random bits need not be slow.
   */
  static final String SERVICE = "lake-jobs";
  private static final String SERVICE_HASH = System.getenv().getOrDefault("LAKE_SQL_PASSWORD_HASH", "");
  /** The user of the health check. Its password is made by this process, for itself and for who can read its files. */
  static final String HEALTH = "lake-health";
  private static final String HEALTH_PASSWORD = HexFormat.of().formatHex(Login.random(32));
  private static final Path FILE = Path.of(System.getenv().getOrDefault("LAKE_USERS", "/var/lib/lake/users/users.json"));
  static final Set<String> ANALYST_SCHEMAS = Set.of("silver", "mart", "gold", "default");

  /** A user as the file has it. */
  record User(String role, int iterations, byte[] salt, byte[] hash) {}

  private record Version(Object fileKey, Object modified, long size) {}

  private static Version version;
  private static Map<String, User> users = Map.of();

  private Users() {}

  static boolean isOwn(String user) {
    return SERVICE.equals(user) || HEALTH.equals(user);
  }

  /** Whether it is the password of one of the lakehouse's own users. */
  static boolean isOwn(String user, String secret) {
    String[] parts = SERVICE_HASH.split(":");
    return switch (user) {
      case HEALTH -> equal(HEALTH_PASSWORD, secret);
      case SERVICE -> parts.length == 2 && equal(parts[1], Login.sha256(parts[0] + secret));
      default -> false;
    };
  }

  private static boolean equal(String expected, String found) {
    return MessageDigest.isEqual(expected.getBytes(StandardCharsets.UTF_8), found.getBytes(StandardCharsets.UTF_8));
  }

  /** Writes the health check's password to a file for the owner of this process alone. */
  static void tellHealthCheck(Path file) throws IOException {
    Files.deleteIfExists(file);
    Files.createFile(file, PosixFilePermissions.asFileAttribute(PosixFilePermissions.fromString("rw-------")));
    Files.writeString(file, HEALTH_PASSWORD);
  }

  static User find(String name) {
    return current().get(name);
  }

  /** What changes with a user's password; null for whoever is not in the file. */
  static Object login(String name) {
    User user = find(name);
    return user == null ? null : HexFormat.of().formatHex(user.hash());
  }

  static String role(String name) {
    if (SERVICE.equals(name)) {
      return "engineer";
    }
    if (HEALTH.equals(name)) {
      return "analyst";
    }
    User user = name == null ? null : find(name);
    String role = user != null ? user.role() : name == null ? null : Ldap.role(name);
    return role == null ? "none" : role;
  }

  static boolean mayRead(String role, String schema) {
    return switch (role) {
      case "engineer" -> true;
      case "analyst", "steward" -> ANALYST_SCHEMAS.contains(schema);
      default -> false;
    };
  }

  /** Whether a role sees ids; others see pseudonyms, if there are any ({@link Protect}). */
  static boolean seesIds(String role) {
    return "steward".equals(role) || "engineer".equals(role);
  }

  /** The users of the file as it is now: it is read again when it was changed. Without a file that can be read there are none. */
  private static synchronized Map<String, User> current() {
    try {
      BasicFileAttributes attributes = Files.readAttributes(FILE, BasicFileAttributes.class);
      Version found = new Version(attributes.fileKey(), attributes.lastModifiedTime(), attributes.size());
      if (!found.equals(version)) {
        users = read();
        version = found;
      }
    } catch (IOException | RuntimeException error) {
      if (version != null || !Files.notExists(FILE)) {
        System.err.println("endpoint-guard: no user can log in, because " + FILE + " cannot be read: " + error);
      }
      users = Map.of();
      version = null;
    }
    return users;
  }

  private static Map<String, User> read() throws IOException {
    Map<String, User> read = new HashMap<>();
    JsonNode entries = new ObjectMapper().readTree(Files.readAllBytes(FILE)).required("users");
    for (Map.Entry<String, JsonNode> entry : entries.properties()) {
      JsonNode user = entry.getValue();
      String role = user.required("role").asText();
      int iterations = user.required("iterations").asInt();
      if (!List.of("analyst", "steward", "engineer").contains(role) || iterations < 100_000) {
        throw new IOException("the entry of " + entry.getKey() + " is not one that 'lake users' writes");
      }
      Base64.Decoder decoder = Base64.getDecoder();
      read.put(entry.getKey(), new User(role, iterations,
          decoder.decode(user.required("salt").asText()), decoder.decode(user.required("hash").asText())));
    }
    return read;
  }
}
