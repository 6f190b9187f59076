/** A zip archive of a few files, not compressed: a model and its data arrive as one download. */

export function zip(files: Record<string, Uint8Array>): Uint8Array {
  const [bodies, directory]: [Uint8Array[], Uint8Array[]] = [[], []];
  let offset = 0;
  for (const [name, data] of Object.entries(files)) {
    const path = new TextEncoder().encode(name);
    const fields = describe(path, data);
    const local = join([numbers([[4, 0x04034b50]]), fields, path, data]);
    bodies.push(local);
    // After the fields that a file's own header has too: comment, disk, attributes, and where that header stands.
    const central = numbers([[2, 0], [2, 0], [2, 0], [4, 0], [4, offset]]);
    directory.push(join([numbers([[4, 0x02014b50], [2, 20]]), fields, central, path]));
    offset += local.length;
  }
  const index = join(directory);
  const count = directory.length;
  const end = numbers([[4, 0x06054b50], [2, 0], [2, 0], [2, count], [2, count], [4, index.length], [4, offset], [2, 0]]);
  return join([...bodies, index, end]);
}

function describe(path: Uint8Array, data: Uint8Array): Uint8Array {
  const [utf8, stored, midnight, firstOf1980] = [0x0800, 0, 0, 0x0021];
  const head: Field[] = [[2, 20], [2, utf8], [2, stored], [2, midnight], [2, firstOf1980], [4, crc32(data)]];
  return numbers([...head, [4, data.length], [4, data.length], [2, path.length], [2, 0]]);
}

/** A width in bytes, and a number. */
type Field = readonly [2 | 4, number];

function numbers(fields: readonly Field[]): Uint8Array {
  const bytes = new Uint8Array(fields.reduce((sum, [width]) => sum + width, 0));
  const view = new DataView(bytes.buffer);
  let at = 0;
  for (const [width, value] of fields) {
    if (width === 2) view.setUint16(at, value, true);
    else view.setUint32(at, value, true);
    at += width;
  }
  return bytes;
}

function join(parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

/** The checksum of zip, bit by bit: the files are small. */
function crc32(data: Uint8Array): number {
  let crc = ~0;
  for (const byte of data) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
  }
  return ~crc >>> 0;
}
