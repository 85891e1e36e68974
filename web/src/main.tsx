import { render } from "preact";
import { App } from "./app";
import { startLive } from "./live";
import { followLinks } from "./router";
import "./style.css";

startLive();
document.addEventListener("click", followLinks);
render(<App />, document.getElementById("app")!);
