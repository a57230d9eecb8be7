class_name BackendUiErrors
extends RefCounted
## Sentences for players about errors, by their code. Other errors keep the message they came with.

const _TEXTS: Dictionary[String, String] = {
	"account_exists": "There is an account with this address already. Log in instead.",
	"already_in_matchmaking": "You are in the search of a party already.",
	"already_linked": "This address belongs to another account.",
	"banned": "This account is banned.",
	"connection_failed": "The server cannot be reached.",
	"expired": "Your session has ended. Log in again.",
	"internal": "The service has a problem. Try again later.",
	"invalid_credentials": "The e-mail address or the password is wrong.",
	"invite_code_unknown": "No room has this code.",
	"mail_code_invalid": "The code is wrong or too old. Request another one.",
	"match_not_accepted": "You did not accept the match.",
	"matchmaker_not_found": "This game mode is not available.",
	"network": "The service cannot be reached. Check your connection.",
	"no_match": "No match was found. Try again later.",
	"no_room": "All servers are busy. Try again.",
	"not_logged_in": "Log in first.",
	"rate_limited": "Too many attempts. Wait a moment.",
	"refresh_token_invalid": "Your session has ended. Log in again.",
	"refresh_token_reused": "Your session was used elsewhere. Log in again.",
	"relay_refused": "You cannot join this room at the moment.",
	"room_creation_refused": "You cannot create rooms here.",
	"room_draining": "This server is closing.",
	"room_full": "This server is full.",
	"room_not_found": "This server is gone.",
	"room_limit_reached": "You have as many rooms as you may have.",
	"room_start_failed": "The server did not start. Try again.",
	"timeout": "The service does not answer. Try again.",
	"unavailable": "The service is not available. Try again later.",
	"wrong_room_password": "The password is wrong.",
}


## The sentence for [param error], to be translated in [constant BackendUiTranslations.DOMAIN].
static func text_of(error: BackendError) -> String:
	return _TEXTS.get(error.code, error.message)
