class_name FrogMotion
extends RefCounted
## The rules of hopping, without nodes or network: the server decides with them, the client predicts
## with them.

enum Phase { SITTING, HOPPING, SULKING }

const HOP_SECONDS := 0.35
const SULK_SECONDS := 0.8

## Pads left behind.
var pads := 0
var phase := Phase.SITTING
## Seconds in the present phase.
var elapsed := 0.0


## Hops. False when the frog had not landed yet (it falls back and sulks) or is still sulking.
func hop() -> bool:
	if phase == Phase.SITTING:
		_enter(Phase.HOPPING)
		return true
	if phase == Phase.HOPPING:
		_enter(Phase.SULKING)
	return false


func advance(seconds: float) -> void:
	elapsed += seconds
	if phase == Phase.HOPPING and elapsed >= HOP_SECONDS:
		pads += 1
		_enter(Phase.SITTING)
	elif phase == Phase.SULKING and elapsed >= SULK_SECONDS:
		_enter(Phase.SITTING)


## Pads left behind, with the fraction of a hop under way.
func progress() -> float:
	return pads + (clampf(elapsed / HOP_SECONDS, 0.0, 1.0) if phase == Phase.HOPPING else 0.0)


func _enter(next: Phase) -> void:
	phase = next
	elapsed = 0.0
