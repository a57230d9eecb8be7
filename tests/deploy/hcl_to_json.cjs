// Prints the Terraform files of a folder as one JSON document, by HashiCorp's own parser: node hcl_to_json.cjs FOLDER
const fs = require("node:fs");
const path = require("node:path");
const { parse } = require("@cdktf/hcl2json");

async function main(folder) {
	const found = {};
	for (const name of fs.readdirSync(folder).filter((file) => file.endsWith(".tf")).sort()) {
		found[name] = await parse(name, fs.readFileSync(path.join(folder, name), "utf8"));
	}
	console.log(JSON.stringify(found));
}

main(process.argv[2]).catch((error) => {
	console.error(error.message);
	process.exit(1);
});
