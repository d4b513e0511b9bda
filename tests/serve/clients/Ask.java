import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.file.Path;

/** Sends an image three times and asks for /livez with the JDK's default client, which offers HTTP/2 (h2c). */
public class Ask {
    public static void main(String[] words) throws Exception {
        HttpClient client = HttpClient.newHttpClient();
        HttpRequest post = HttpRequest.newBuilder(URI.create(words[0] + "/v1/predict"))
                .header("Content-Type", "image/jpeg")
                .POST(HttpRequest.BodyPublishers.ofFile(Path.of(words[1])))
                .build();
        HttpRequest get = HttpRequest.newBuilder(URI.create(words[0] + "/livez")).build();
        for (HttpRequest each : new HttpRequest[] {post, post, post, get}) {
            System.out.print(client.send(each, HttpResponse.BodyHandlers.ofString()).statusCode() + " ");
        }
    }
}
