package lake.guard;

import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import org.apache.thrift.TException;
import org.apache.thrift.protocol.TBinaryProtocol;
import org.apache.thrift.protocol.TProtocolException;
import org.apache.thrift.transport.TTransport;

/** Thrift's binary protocol, but that a text takes memory as its bytes come, and not as soon as a client says how many will. */
final class Protocol extends TBinaryProtocol {
  private static final int PIECE = 64 << 10;

  Protocol(TTransport transport) {
    super(transport, Binary.LONGEST_MESSAGE, Binary.MOST_ENTRIES, false, true);
  }

  @Override
  public String readStringBody(int size) throws TException {
    return new String(bytes(size), StandardCharsets.UTF_8);
  }

  @Override
  public ByteBuffer readBinary() throws TException {
    int size = readI32();
    if (size < 0 || size > Binary.LONGEST_MESSAGE) {
      throw new TProtocolException(TProtocolException.SIZE_LIMIT, "a text of " + size + " bytes");
    }
    return ByteBuffer.wrap(bytes(size));
  }

  private byte[] bytes(int size) throws TException {
    byte[] bytes = new byte[Math.min(size, PIECE)];
    int known = 0;
    while (true) {
      trans_.readAll(bytes, known, bytes.length - known);
      known = bytes.length;
      if (known == size) {
        return bytes;
      }
      bytes = Arrays.copyOf(bytes, (int) Math.min(size, 2L * known));
    }
  }
}
