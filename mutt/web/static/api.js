// The page to try the API: Swagger UI over our own document. A session's token goes with each change.
const place = document.getElementById("api");
const token = document.querySelector("meta[name=csrf-token]").content;

window.SwaggerUIBundle({
  url: place.dataset.document,
  domNode: place,
  deepLinking: true,
  docExpansion: "none",
  defaultModelsExpandDepth: -1,
  validatorUrl: null,
  requestInterceptor(request) {
    if (token) request.headers["X-CSRFToken"] = token;
    return request;
  },
});
