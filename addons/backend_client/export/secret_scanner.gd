extends RefCounted
## Finds server keys, admin keys and private keys in the bytes of a file, also where Godot has
## compressed them.

## What a key of the backend looks like. Its last six characters are a checksum of the rest, so
## that nothing is reported that only looks like one.
const KEY: String = "g[a-z]k_[a-z0-9-]{1,16}_[A-Za-z0-9_-]{43}[0-9a-f]{6}"
## A header alone stands in many TLS libraries; a key has a body.
const PRIVATE_KEY: String = "-----BEGIN [A-Z ]*PRIVATE KEY-----\\s+[A-Za-z0-9+/=\\s]{60}"
const KEY_BEGIN: String = "k_"
const MAX_KEY_BYTES: int = 512
## No file of a game unpacks to more.
const MAX_UNPACKED_BYTES: int = 256 * 1024 * 1024
const ZSTD: int = 2
const ZSTD_MAGIC: int = 0xFD2FB528
const CRC_POLYNOMIAL: int = 0xEDB88320

static var _crc_table: PackedInt64Array = []

var _key: RegEx = RegEx.create_from_string(KEY)
var _private_key: RegEx = RegEx.create_from_string(PRIVATE_KEY)
var _known: Array[PackedByteArray] = []


## [param known] are secrets to look for word by word, such as the key of this machine's server.
func _init(known: PackedStringArray = []) -> void:
	for secret: String in known:
		if secret.length() >= 8:
			_known.append(secret.to_utf8_buffer())


## What was found, one description each, without the secret itself.
func find_secrets(bytes: PackedByteArray) -> PackedStringArray:
	var found: PackedStringArray = []
	_scan(bytes, found)
	var at: int = _find(bytes, "GDSC".to_ascii_buffer(), 0)
	while at >= 0:
		_scan(_unpacked_script(bytes, at), found)
		at = _find(bytes, "GDSC".to_ascii_buffer(), at + 4)
	at = _find(bytes, "RSCC".to_ascii_buffer(), 0)
	while at >= 0:
		_scan(_unpacked_resource(bytes, at), found)
		at = _find(bytes, "RSCC".to_ascii_buffer(), at + 4)
	return found


## The same in a value, however deep: as the engine stores it, and as text, which holds what is in
## objects.
func find_secrets_in_value(value: Variant) -> PackedStringArray:
	var found: PackedStringArray = find_secrets(var_to_bytes(value))
	for what: String in find_secrets(var_to_str(value).to_utf8_buffer()):
		_add(found, what)
	return found


func _scan(bytes: PackedByteArray, found: PackedStringArray) -> void:
	var at: int = _find(bytes, KEY_BEGIN.to_ascii_buffer(), 0)
	while at >= 0:
		var hit: RegExMatch = _key.search(_text(bytes, at - 2))
		if hit != null and hit.get_start() == 0 and _has_checksum(hit.get_string()):
			_add(found, "a key of the backend, %s…" % hit.get_string().left(12))
		at = _find(bytes, KEY_BEGIN.to_ascii_buffer(), at + 2)
	at = _find(bytes, "-----BEGIN".to_ascii_buffer(), 0)
	while at >= 0:
		var hit: RegExMatch = _private_key.search(_text(bytes, at))
		if hit != null and hit.get_start() == 0:
			_add(found, "a private key (PEM)")
		at = _find(bytes, "-----BEGIN".to_ascii_buffer(), at + 10)
	for secret: PackedByteArray in _known:
		if _find(bytes, secret, 0) >= 0:
			_add(found, "the server key of this machine")


func _add(found: PackedStringArray, what: String) -> void:
	if not found.has(what):
		found.append(what)


## The Latin-1 text from [param at] on: every byte is one character.
func _text(bytes: PackedByteArray, at: int) -> String:
	var text: String = ""
	for byte: int in bytes.slice(maxi(at, 0), maxi(at, 0) + MAX_KEY_BYTES):
		text += String.chr(byte) if byte > 0 else " "
	return text


## Where [param what] stands in [param bytes]; -1 if nowhere.
func _find(bytes: PackedByteArray, what: PackedByteArray, from: int) -> int:
	var at: int = bytes.find(what[0], from)
	while at >= 0 and at + what.size() <= bytes.size():
		if bytes[at + 1] == what[1] and bytes.slice(at, at + what.size()) == what:
			return at
		at = bytes.find(what[0], at + 1)
	return -1


## A script as Godot exports it: magic, version, size, and a Zstandard frame with its constants.
func _unpacked_script(bytes: PackedByteArray, at: int) -> PackedByteArray:
	if at + 12 >= bytes.size():
		return []
	var size: int = bytes.decode_u32(at + 8)
	if size == 0 or size > MAX_UNPACKED_BYTES:
		return []
	return _unpacked(bytes, at + 12, bytes.size() - at - 12, size)


## A compressed resource: magic, mode, size of a block, size of all, sizes of the packed blocks,
## the blocks.
func _unpacked_resource(bytes: PackedByteArray, at: int) -> PackedByteArray:
	if at + 16 >= bytes.size() or bytes.decode_u32(at + 4) != ZSTD:
		return []
	var block: int = bytes.decode_u32(at + 8)
	var total: int = bytes.decode_u32(at + 12)
	if block == 0 or total > MAX_UNPACKED_BYTES:
		return []
	var count: int = total / block + 1
	var data: int = at + 16 + 4 * count
	var unpacked: PackedByteArray = []
	for index: int in count:
		if at + 20 + 4 * index > bytes.size():
			break
		var packed: int = bytes.decode_u32(at + 16 + 4 * index)
		if data + packed > bytes.size():
			break
		unpacked += _unpacked(bytes, data, packed, mini(block, total - index * block))
		data += packed
	return unpacked


func _unpacked(bytes: PackedByteArray, at: int, packed: int, size: int) -> PackedByteArray:
	# Anything can follow four letters; only what begins like a Zstandard frame is one.
	if size <= 0 or packed < 12 or bytes.decode_u32(at) != ZSTD_MAGIC:
		return []
	var end: int = _frame_end(bytes, at, at + packed)
	if end < 0:
		return []
	return bytes.slice(at, end).decompress(size, FileAccess.COMPRESSION_ZSTD)


## Where a Zstandard frame (RFC 8878, section 3.1.1) ends; -1 if it does not end before
## [param limit].
func _frame_end(bytes: PackedByteArray, begin: int, limit: int) -> int:
	var descriptor: int = bytes[begin + 4]
	var single_segment: bool = descriptor & 0x20
	var content_size_flag: int = descriptor >> 6
	var at: int = begin + 5 + (0 if single_segment else 1) + [0, 1, 2, 4][descriptor & 3]
	at += [1 if single_segment else 0, 2, 4, 8][content_size_flag]
	while at + 3 <= limit:
		var header: int = bytes[at] | bytes[at + 1] << 8 | bytes[at + 2] << 16
		# A block of one repeated byte holds that byte.
		at += 3 + (1 if (header >> 1) & 3 == 1 else header >> 3)
		if header & 1:
			at += 4 if descriptor & 0x04 else 0
			return at if at <= limit else -1
	return -1


func _has_checksum(key: String) -> bool:
	if _crc_table.is_empty():
		for index: int in 256:
			var entry: int = index
			for bit: int in 8:
				entry = (entry >> 1) ^ (CRC_POLYNOMIAL if entry & 1 else 0)
			_crc_table.append(entry)
	var crc: int = 0xFFFFFFFF
	for byte: int in key.left(-6).to_ascii_buffer():
		crc = (crc >> 8) ^ _crc_table[(crc ^ byte) & 0xFF]
	return "%06x" % ((crc ^ 0xFFFFFFFF) & 0x00FFFFFF) == key.right(6)
