## What the samples of the documentation use without declaring it.
##
## A sample gets those declarations that it names. The values come from `suites/samples.gd`.
extends Node

const URL := "http://127.0.0.1:9"
## The classes of nodes that a sample calls something else.
const NODES: Dictionary[String, String] = {
	"Accept": "Control",
	"Registration": "BackendServerRegistration",
	"World": "BackendWorldStore",
}

var accept_dialog: Window
var changed: PackedStringArray
var code_field: LineEdit
var join_ticket: BackendJoinTicket
var list: ItemList
var matchmaker: BackendMatchmaker
var max_players: int
var nakama_session := NakamaSession.new()
var options: BackendMatchOptions
var page: BackendRoomPage
var party: PackedStringArray
var party_code: String
var password: String
var password_field: LineEdit
var peer: ENetMultiplayerPeer
var peer_auth: BackendPeerAuth
var player: BackendPlayer
var player_id: String
var port: int
var progress: Dictionary
var query: BackendRoomQuery
var registration: BackendServerRegistration
var room: BackendRoom
var room_id: String
var rooms: BackendRooms
var search_field: LineEdit
var session: BackendSession
var status: Label
var store: BackendPlayerStore
var team: String
var terrain: Dictionary[String, PackedByteArray]
var ticket: String
var ticket_id: String
var token: String
var world: BackendWorldStore


## The part of the addon GodotSteam that a sample uses.
class Steam:
	static var get_ticket_for_web_api: Signal

	static func getAuthTicketForWebApi(_identity: String) -> void:  # gdlint:ignore=function-name
		pass


## A session of another client.
class NakamaSession:
	var token := ""


func _join_again() -> void:
	pass


func _save_all_players() -> void:
	pass


func _show_menu() -> void:
	pass


@rpc
func announce(_text: String) -> void:
	pass


func add_row(..._arguments: Array) -> void:
	pass


func build(_chunk_name: String, _data: PackedByteArray) -> void:
	pass


func expect_players(_player_ids: PackedStringArray) -> void:
	pass


func fetch_from_old_service(_player_id: String) -> Dictionary:
	await get_tree().process_frame
	return {"visits": 1}


func ids_of_players() -> PackedStringArray:
	return []


func join(_ticket: BackendJoinTicket) -> void:
	pass


func load_map(_map: String) -> void:
	pass


func remove_row(_room_id: String) -> void:
	pass


func send_invitation(_ticket_id: String) -> void:
	pass


func serialize(_chunk_name: String) -> PackedByteArray:
	return PackedByteArray([1])


func show_error(_message: String) -> void:
	pass


func show_message(_message: String) -> void:
	pass


func show_room(_room: BackendRoom) -> void:
	pass


func show_rooms(_page: BackendRoomPage) -> void:
	pass


func update_row(_room: BackendRoom) -> void:
	pass
