`AWS_ATTACHMENT_SERVING`: downloads can be redirected to the store by presigned addresses, or fetched from it by nginx; an invalid `Range` is ignored.
