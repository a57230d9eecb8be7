## Where an error says that it is explained.
extends "res://backend_suite.gd"

const BASE_URL := "backend_client/documentation/base_url"


func test_an_error_names_its_place_in_the_page_of_the_addon() -> void:
	var login: BackendLoginResult = await new_session(config_for("")).login_anonymous().wait()
	failed_with(login, "not_configured", "login")
	var url := login.error.doc_url
	check_eq(url, "res://addons/backend_client/docs/errors.md#not_configured", "doc_url")
	var page := FileAccess.get_file_as_string(url.get_slice("#", 0))
	var place := page.split("\n")
	var rows := Array(place).filter(
		func(line: String) -> bool: return line.contains('<a id="not_configured"></a>')
	)
	check_eq(rows.size(), 1, "places of the code")
	check(not page.contains("]("), "the page has links that lead out of the addon")


func test_the_address_of_a_published_guide() -> void:
	ProjectSettings.set_setting(BASE_URL, "https://guide.example.org/addon/")
	var login: BackendLoginResult = await new_session(config_for("")).login_anonymous().wait()
	check_eq(
		login.error.doc_url, "https://guide.example.org/addon/errors.html#not_configured", "doc_url"
	)
	ProjectSettings.set_setting(BASE_URL, "")
