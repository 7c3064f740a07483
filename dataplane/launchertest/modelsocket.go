package launchertest

import (
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"

	"github.com/gobwas/ws"

	"github.com/sagelocal/sagelocal/dataplane"
)

// converse is the model server's side of a bidirectional stream: it sends each
// frame back as it came. A text frame can ask for something else: "close CODE
// REASON", "crash", "target", which answers the target of the request.
func converse(w http.ResponseWriter, r *http.Request) {
	conn, both, _, err := ws.UpgradeHTTP(r, w)
	if err != nil {
		return // the answer says why
	}
	defer conn.Close()
	echo(conn, both, r.RequestURI)
}

func echo(conn io.Writer, both io.Reader, target string) {
	for {
		h, err := ws.ReadHeader(both)
		if err != nil || h.Length > dataplane.MaxFrame {
			return
		}
		payload := make([]byte, h.Length)
		if _, err := io.ReadFull(both, payload); err != nil {
			return
		}
		ws.Cipher(payload, h.Mask, 0)
		verb, rest, _ := strings.Cut(string(payload), " ")
		switch {
		case h.OpCode == ws.OpPong:
			continue
		case h.OpCode == ws.OpText && verb == "close":
			code, reason, _ := strings.Cut(rest, " ")
			n, _ := strconv.Atoi(code)
			h.OpCode, payload = ws.OpClose, ws.NewCloseFrameBody(ws.StatusCode(n), reason)
		case h.OpCode == ws.OpText && verb == "crash":
			os.Exit(3)
		case h.OpCode == ws.OpText && verb == "target":
			payload = []byte(target)
		}
		if err := ws.WriteFrame(conn, ws.NewFrame(h.OpCode, h.Fin, payload)); err != nil || h.OpCode == ws.OpClose {
			return
		}
	}
}
