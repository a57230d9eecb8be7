extends "res://ways/way.gd"
## This addon.

var _validator := BackendTokenValidator.new()


func _ready() -> void:
	_validator.policy = BackendTokenValidator.REMOTE_ONLY
	add_child(_validator)


func submit() -> void:
	submitted += 1
	_validator.validate(token).completed.connect(_on_completed)


func _on_completed(result: BackendValidationResult) -> void:
	note(result.player.player_id if result.ok() else "")
