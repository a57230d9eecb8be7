extends Control
## The client: it logs in without a password, joins the first room, and shows what the server sends.


func _ready() -> void:
	multiplayer.server_disconnected.connect(_show.bind("The server has ended."))
	multiplayer.connection_failed.connect(_show.bind("The server cannot be reached."))
	$BackendPeerAuth.refused.connect(func(error: BackendError) -> void: _show(error.message))
	# The account belongs to this device: the next start is the same player.
	var login: BackendLoginResult = await $BackendSession.login_with_device().wait()
	if login.failed():
		return _show("The login failed: %s" % login.error.message)
	var page: BackendRoomPage = await $BackendRooms.list_rooms().wait()
	if page.failed() or page.size() == 0:
		return _show(page.error.message if page.failed() else "There is no server yet. Start one.")
	var ticket: BackendJoinTicket = await (
		$BackendRooms.request_ticket(page.get_room(0).room_id).wait()
	)
	if ticket.failed():
		return _show("The server cannot be joined: %s" % ticket.error.message)
	$BackendPeerAuth.use_ticket(ticket)
	var peer := ENetMultiplayerPeer.new()
	peer.create_client(ticket.address, ticket.port)
	multiplayer.multiplayer_peer = peer


@rpc("authority", "reliable")
func show_visits(visits: int) -> void:
	_show("Welcome. Visits: %d" % visits)


func _show(text: String) -> void:
	$Text.text = text
	print(text)
