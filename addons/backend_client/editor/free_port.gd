@tool
extends RefCounted
## Ports of this machine that nothing listens on.

const FIRST := 20_000
## Below the range from which systems give ports to outgoing connections.
const LAST := 32_000


## The first free port from [param preferred] on, for TCP and UDP, that is not in [param taken];
## 0 if there is none.
static func from(preferred: int, taken: PackedInt32Array = []) -> int:
	for port: int in range(preferred, mini(preferred + 100, 65_536)):
		if not taken.has(port) and is_free(port):
			return port
	for port: int in range(FIRST + randi() % 10_000, LAST):
		if not taken.has(port) and is_free(port):
			return port
	return 0


static func is_free(port: int) -> bool:
	var tcp := TCPServer.new()
	var udp := UDPServer.new()
	var free := tcp.listen(port, "127.0.0.1") == OK and udp.listen(port, "127.0.0.1") == OK
	tcp.stop()
	udp.stop()
	return free
