package lake.guard;

import static lake.guard.Scala.seq;

import java.io.Serializable;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.security.GeneralSecurityException;
import java.util.Arrays;
import java.util.HexFormat;
import javax.crypto.Mac;
import javax.crypto.spec.SecretKeySpec;
import org.apache.spark.sql.catalyst.expressions.Expression;
import org.apache.spark.sql.catalyst.expressions.Literal;
import org.apache.spark.sql.catalyst.expressions.objects.Invoke;
import org.apache.spark.sql.types.DataType;
import org.apache.spark.sql.types.DataTypes;
import org.apache.spark.unsafe.types.UTF8String;
import scala.collection.immutable.Seq;

/**
 * What is shown in the place of an id: HMAC-SHA-256 of it, with a key that no query can reach, cut to 80 bits of a text and
 * 63 of a number. The same id has the same pseudonym in all tables and after all loads, for as long as the key is the same.
 * Each column has its own, so a number that is in two of them cannot be told by it.
 *
 * <p>A plan holds this object, which goes to executors with it. Plans are shown to clients, so nothing of it shows the key.
 */
public final class Pseudonyms implements Serializable {
  private static final long serialVersionUID = 1;
  /** A base64 of 24 bytes has 32 characters, and what make-env writes has 48. */
  private static final int SHORTEST_KEY = 32;
  /** Rows of a meterpoint lie beside each other. */
  private static final int REMEMBERED = 4096;
  private static final String TEXT = "text";
  private static final String NUMBER = "number";

  private final byte[] key;
  private final String column;
  private transient ThreadLocal<Known> known;

  /** Of one thread: the last values that fell on a place, and their pseudonyms. */
  private static final class Known {
    private final Mac mac;
    private final UTF8String[] texts = new UTF8String[REMEMBERED];
    private final UTF8String[] pseudonyms = new UTF8String[REMEMBERED];

    private Known(Mac mac) {
      this.mac = mac;
    }
  }

  private Pseudonyms(byte[] key, String column) {
    this.key = key;
    this.column = column;
  }

  /** Raises IllegalArgumentException for a key that could be guessed. */
  static Pseudonyms of(String key, String column) {
    if (key == null || key.length() < SHORTEST_KEY) {
      throw new IllegalArgumentException("LAKE_PSEUDONYM_KEY must have " + SHORTEST_KEY + " characters or more");
    }
    return new Pseudonyms(key.getBytes(StandardCharsets.UTF_8), column);
  }

  /** The pseudonym of a column's value, of its type; null for null, and of any other type. */
  Expression of(Expression id) {
    DataType type = id.dataType();
    String method = type.equals(DataTypes.StringType) ? TEXT : type.equals(DataTypes.LongType) ? NUMBER : null;
    if (method == null) {
      return new Literal(null, type);
    }
    Seq<Expression> arguments = seq(java.util.List.of(id));
    return new Invoke(Literal.fromObject(this), method, type, arguments, Invoke.apply$default$5(), true, true, true);
  }

  /** Whether an expression is what {@link #of(Expression)} makes. SQL has no way to write one. */
  static boolean is(Expression expression) {
    return expression instanceof Invoke invoke && invoke.targetObject() instanceof Literal object
        && object.value() instanceof Pseudonyms;
  }

  /** Called by the plan. */
  public UTF8String text(UTF8String id) {
    Known here = here();
    int place = id.hashCode() & (REMEMBERED - 1);
    if (!id.equals(here.texts[place])) {
      byte[] bytes = here.mac.doFinal(id.getBytes());
      here.pseudonyms[place] = UTF8String.fromString("p" + HexFormat.of().formatHex(bytes, 0, 10));
      here.texts[place] = id.clone();
    }
    return here.pseudonyms[place];
  }

  /** Called by the plan. */
  public long number(long id) {
    byte[] bytes = here().mac.doFinal(ByteBuffer.allocate(Long.BYTES).putLong(id).array());
    return ByteBuffer.wrap(bytes).getLong() & Long.MAX_VALUE;
  }

  private Known here() {
    ThreadLocal<Known> threads = known;
    if (threads == null) {
      synchronized (this) {
        if (known == null) {
          known = ThreadLocal.withInitial(() -> new Known(mac()));
        }
        threads = known;
      }
    }
    return threads.get();
  }

  private Mac mac() {
    try {
      Mac whole = Mac.getInstance("HmacSHA256");
      whole.init(new SecretKeySpec(key, "HmacSHA256"));
      // A key for each column, made of the one key.
      byte[] own = whole.doFinal(column.getBytes(StandardCharsets.UTF_8));
      whole.init(new SecretKeySpec(own, "HmacSHA256"));
      return whole;
    } catch (GeneralSecurityException error) {
      throw new IllegalStateException(error);
    }
  }

  /** Two of them are one if they say the same, or the same scan of a table would not be recognised in a plan. */
  @Override
  public boolean equals(Object other) {
    return other instanceof Pseudonyms same && column.equals(same.column) && Arrays.equals(key, same.key);
  }

  @Override
  public int hashCode() {
    return column.hashCode();
  }

  @Override
  public String toString() {
    return "pseudonym";
  }
}
