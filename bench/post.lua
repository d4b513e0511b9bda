-- wrk: posts the JPEGs of the folder $JPEGS in turn, each as the multipart field `file`.
local bodies, at = {}, 0
for name in io.popen('ls "' .. os.getenv("JPEGS") .. '"/*.jpg'):lines() do
  local file = io.open(name, "rb")
  bodies[#bodies + 1] = '--x\r\nContent-Disposition: form-data; name="file"; filename="lesion.jpg"\r\n'
    .. "Content-Type: image/jpeg\r\n\r\n" .. file:read("*a") .. "\r\n--x--\r\n"
  file:close()
end
wrk.method = "POST"
wrk.headers["Content-Type"] = "multipart/form-data; boundary=x"
function request()
  at = at % #bodies + 1
  return wrk.format(nil, nil, nil, bodies[at])
end
